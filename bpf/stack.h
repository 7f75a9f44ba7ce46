/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Stacks by id: a hash of the frames and the address space. An event carries only the id. The frames
 * are sent once, in a ring of their own, so that many new stacks take no room from events.
 */
#ifndef KWATCH_STACK_H
#define KWATCH_STACK_H

#include "known_stacks.h"
#include "stack_copy.h"
#include "unwind.h"

#define MAX_CHUNKS (KWATCH_MAX_FRAMES / KWATCH_STACK_CHUNK)

BPF_TABLE("lru_hash", u64, u8, stacks_sent, 65536);

static __always_inline bool was_sent(u64 stack)
{
	return stacks_sent.lookup(&stack);
}

/* Copies the frames of a chunk. Entries beyond the last frame are meaningless. */
static __always_inline void fill_chunk(struct kwatch_stack *record, struct unwinding *u)
{
	u32 first = record->first;

#pragma unroll
	for (int i = 0; i < KWATCH_STACK_CHUNK; i++)
		record->frames[i] = u->frames[(first + i) & (KWATCH_MAX_FRAMES - 1)];
}

static __always_inline int send_frames(void *ctx, struct unwinding *u, u64 stack, u8 copy)
{
	struct kwatch_stack record = {};

	head(&record.head, u->type, u->tgid);
	record.stack = stack;
	record.total = u->count;
	record.exact = u->by_frame_pointer ? u->exact : u->count;
	record.end = u->end | (u->by_frame_pointer ? STACK_BY_FRAME_POINTER : 0);
	record.copy = copy;
#pragma clang loop unroll(disable)
	for (int chunk = 0; chunk < MAX_CHUNKS; chunk++) {
		if (record.first >= record.total)
			break;
		fill_chunk(&record, u);
		if (stack_ring.perf_submit(ctx, &record, sizeof(record)))
			return -1;
		record.first += KWATCH_STACK_CHUNK;
	}
	return 0;
}

static __always_inline u64 valid_id(u64 stack)
{
	return stack < KWATCH_STACK_IDS ? stack + KWATCH_STACK_IDS : stack;
}

/*
 * The id of the stack. Beyond an unknown mapping, stacks with equal frames so far may differ, so the
 * stack memory there is part of the id, unless too many such stacks were sent already.
 */
static __always_inline u64 identify(struct unwinding *u, u8 *copy)
{
	u64 start, stack = u->end == STACK_COMPLETE ? u->hash : mix(u->hash, u->end);

	*copy = COPY_NOT_NEEDED;
	if (!is_unfinished(u))
		return valid_id(stack);
	u->uncacheable = 1;
	start = mix(stack, u->exact);
	u->partial = valid_id(start);
	if (spent_on(start) >= COPY_BUDGET) {
		*copy = COPY_SPARED;
		return u->partial;
	}
	*copy = COPY_SENT;
	stack = valid_id(hash_memory(u, mix(start, u->fp_step_sp)));
	spend(start, was_sent(stack) ? 1 : COPY_COST);
	return stack;
}

/* Sends the frames of a new stack and returns the id under which they were sent. */
static __always_inline u64 announce_stack(void *ctx, struct unwinding *u, u64 stack, u8 copy)
{
	u8 sent = 1;

	if (copy == COPY_SENT && send_stack_memory(ctx, u, stack)) {
		count_loss(u->tgid, LOSS_STACK_MEMORY_RING_FULL);
		copy = COPY_SPARED;
		stack = u->partial;
		if (was_sent(stack))
			return stack;
	}
	if (send_frames(ctx, u, stack, copy))
		count_loss(u->tgid, LOSS_STACK_RING_FULL);
	else
		stacks_sent.update(&stack, &sent);
	return stack;
}

/*
 * The mappings of the target. There are none until Python has handled every unmap of code so far;
 * each pending one raises the epoch, because addresses may have new meanings.
 */
static __always_inline void space_of(struct unwinding *u, struct space *space)
{
	u32 tgid = u->tgid;
	struct space *found = spaces.lookup(&tgid);
	struct target *target;
	u32 behind;

	if (found && found->mm_id == u->mm_id) {
		*space = *found;
	} else {
		__builtin_memset(space, 0, sizeof(*space));
		space->mm_id = u->mm_id;
	}
	target = find_target(tgid);
	behind = target ? target->unmaps - (u32)space->unmaps : 1;
	if (behind) {
		space->code = 0;
		space->generation = 0;
		space->epoch += behind;
	}
}

/* The id of the stack, if its frames have been sent and it is unchanged; 0: unwind it. */
static __always_inline u64 begin_stack(struct unwinding *u, struct registers *from,
				       struct last_stack *last)
{
	struct space space;
	u64 stack;

	space_of(u, &space);
	begin_unwinding(u, from);
	u->key.sp = from->sp;
	u->key.pc = from->pc;
	u->key.link = from->link;
	u->key.space = mix(space.mm_id, space.generation);
	stack = find_known(u);
	if (stack && ((stack == last->id && u->key.space == last->space) || was_sent(stack))) {
		last->id = stack;
		last->space = u->key.space;
		return stack;
	}
	u->hash = mix(mix(space.mm_id, space.epoch), from->pc);
	read_window(u);
	return 0;
}

/* Unwinds some frames; false if there are more. */
static __always_inline bool follow_stack(struct unwinding *u)
{
	struct space space;

	space_of(u, &space);
	if (u->wanted) {
		look_up_code(u);
		u->wanted = 0;
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < STEP_FRAMES; i++)
		if (!unwind_frame(u, &space))
			break;
	return u->done;
}

/* The id of a stack that was unwound to its end, or as far as possible. */
static __always_inline u64 end_stack(void *ctx, struct unwinding *u)
{
	u8 copy;
	u64 stack = identify(u, &copy);

	if (!was_sent(stack))
		return announce_stack(ctx, u, stack, copy);
	if (!u->uncacheable) {
		u->known.stack = stack;
		u->known.check = mix(u->known.check, stack);
		known_stacks.update(&u->key, &u->known);
	}
	return stack;
}

/* The tail call that unwinds the stack failed. */
static __always_inline void abandon_stack(struct unwinding *u)
{
	count_loss(u->tgid, LOSS_STACK_SCRATCH_BUSY);
	release(u);
}

#endif
