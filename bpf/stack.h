/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Stacks by id: a hash over the frames and the address space. An event carries only the id; the
 * frames travel once, on a ring of their own, so that many new stacks take no room from what
 * processes do.
 */
#ifndef KWATCH_STACK_H
#define KWATCH_STACK_H

#define MAX_CHUNKS (KWATCH_MAX_FRAMES / KWATCH_STACK_CHUNK)
#define KNOWN_BRANCHES 4 /* looked at, of stacks that begin alike */
#define COPY_PIECES 4
#define COPY_HALVINGS 5
/* What is spent on stacks with the same frames up to the unknown mapping: 512 copies at most. */
#define COPY_BUDGET 65536
#define COPY_COST 128 /* of one that is sent; 1 of one that was */

BPF_TABLE("lru_hash", u64, u8, stacks_sent, 65536);
BPF_TABLE("lru_hash", u64, u32, stacks_copied, 4096);
BPF_PERF_OUTPUT(stack_ring);

BPF_TABLE("lru_hash", struct known_key, struct known_stack, known_stacks, 8192);

static __always_inline bool was_sent(u64 stack)
{
	return stacks_sent.lookup(&stack);
}

/*
 * The id of the known stack, if all that it depended on is as it was; else 0. `branch` is then what
 * was found to be otherwise.
 */
static __always_inline u64 compare_known(struct unwinding *u, struct known_stack *known, u64 *branch)
{
	u64 stack = known->stack, sum = 0;
	u32 size = (known->reach + 1) * 8;

	*branch = u->fp;
	if (known->fp_used && known->fp != u->fp)
		return 0;
	asm volatile("" : "+r"(size));
	size &= WINDOW_WORDS * 16 - 1;
	if (size > WINDOW_WORDS * 8 || read_user(u->words, size, (void *)u->base))
		return 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_PAIRS; i++) {
		u64 slot, value;

		if (i >= known->count)
			break;
		slot = known->slots[i] & (WINDOW_WORDS - 1);
		value = known->values[i];
		if (u->words[slot] != value) {
			*branch = mix(slot, u->words[slot]);
			return 0;
		}
		sum = add_pair(sum, slot, value);
	}
	return mix(sum, stack) == known->check ? stack : 0;
}

/*
 * The id of the stack, if this one was unwound before and nothing has changed since; else 0. Stacks
 * that begin alike, as of calls from two places of one function, are told apart by the first word in
 * which they differ: it leads to the next key.
 */
static __always_inline u64 find_known(struct unwinding *u)
{
	u64 stack, branch;

	u->key.branch = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < KNOWN_BRANCHES; i++) {
		struct known_stack *known = known_stacks.lookup(&u->key);

		if (!known)
			return 0;
		stack = compare_known(u, known, &branch);
		if (stack)
			return stack;
		if (i < KNOWN_BRANCHES - 1)
			u->key.branch = mix(u->key.branch, branch);
	}
	return 0;
}

/* Copies a chunk's frames; those behind the end are left as they are. */
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

/* The unwinding came to an unknown mapping: Python may know it by the time it gets this. */
static __always_inline bool is_unfinished(struct unwinding *u)
{
	return u->guess_reason == STACK_NO_MAPPING;
}

/* From the frame on at which the tables were left. */
static __always_inline void begin_pieces(struct unwinding *u)
{
	u->memory.offset = 0;
	u->memory.size = KWATCH_STACK_COPY;
}

/*
 * Reads the next piece of the stack's memory; false at its end. Its size is kept where the verifier
 * does not know it: else it would follow all that comes after once for each.
 */
static __always_inline bool read_piece(struct unwinding *u)
{
	struct kwatch_stack_memory *memory = &u->memory;

#pragma clang loop unroll(disable)
	for (int i = 0; i < COPY_HALVINGS; i++) {
		u32 size = *(volatile u32 *)&memory->size & (2 * KWATCH_STACK_COPY - 1);

		if (!read_user(u->words, size, (void *)(u->guess_sp + memory->offset)))
			return true;
		memory->size = size >> 1; /* the stack ends sooner */
	}
	return false;
}

#define HASH_STEP 8 /* words; a piece is a multiple of them */

static __always_inline u64 hash_words(struct unwinding *u, u64 hash)
{
	u32 words = *(volatile u32 *)&u->memory.size >> 3;

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < KWATCH_STACK_COPY / 8; i += HASH_STEP) {
		if (i >= words)
			break;
#pragma unroll
		for (u32 j = 0; j < HASH_STEP; j++)
			hash = mix(hash, u->words[i + j]);
	}
	return hash;
}

static __always_inline u64 hash_memory(struct unwinding *u, u64 hash)
{
	begin_pieces(u);
#pragma unroll
	for (int i = 0; i < COPY_PIECES; i++) {
		if (!read_piece(u))
			break;
		hash = hash_words(u, hash);
		u->memory.offset += u->memory.size;
	}
	return hash;
}

static __always_inline int send_stack_memory(void *ctx, struct unwinding *u, u64 stack)
{
	struct kwatch_stack_memory *memory = &u->memory;

	head(&memory->head, EVENT_STACK_MEMORY, u->tgid);
	memory->stack = stack;
	memory->pc = u->guess_pc;
	memory->sp = u->guess_sp;
	memory->fp = u->guess_fp;
	memory->link = u->guess_link;
	memory->frame = u->exact - 1;
	memory->interrupted = u->guess_interrupted;
	begin_pieces(u);
#pragma clang loop unroll(disable)
	for (int i = 0; i < COPY_PIECES; i++) {
		if (!read_piece(u))
			break;
		if (stack_ring.perf_submit(ctx, memory, sizeof(*memory) + KWATCH_STACK_COPY))
			return -1;
		memory->offset += memory->size;
	}
	return 0;
}

static __always_inline u64 valid_id(u64 stack)
{
	return stack < KWATCH_STACK_IDS ? stack + KWATCH_STACK_IDS : stack;
}

/* What has been spent on copies of stacks that begin like this one. */
static __always_inline u32 spent_on(u64 stack)
{
	u32 *spent = stacks_copied.lookup(&stack);

	return spent ? *spent : 0;
}

static __always_inline void spend(u64 stack, u32 cost)
{
	u32 *spent = stacks_copied.lookup(&stack);

	if (spent)
		__sync_fetch_and_add(spent, cost);
	else
		stacks_copied.update(&stack, &cost);
}

/*
 * The id of the stack. Where unwinding came to an unknown mapping, stacks with equal frames so far
 * may differ from there on, so the memory there is part of it, unless there were too many already.
 */
static __always_inline u64 identify(struct unwinding *u, u8 *copy)
{
	u64 start, stack = u->end == STACK_COMPLETE ? u->hash : mix(u->hash, u->end);

	*copy = COPY_NOT_NEEDED;
	if (!is_unfinished(u))
		return valid_id(stack);
	u->forgettable = 1;
	start = mix(stack, u->exact);
	u->partial = valid_id(start);
	if (spent_on(start) >= COPY_BUDGET) {
		*copy = COPY_SPARED;
		return u->partial;
	}
	*copy = COPY_SENT;
	stack = valid_id(hash_memory(u, mix(start, u->guess_sp)));
	spend(start, was_sent(stack) ? 1 : COPY_COST);
	return stack;
}

/* Sends the frames of a stack that have not been sent: the id by which they are known then. */
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
 * The mappings of the target's image. There are none while Python does not know of the last code
 * that was unmapped; what addresses mean has changed as often since.
 */
static __always_inline void space_of(struct unwinding *u, struct space *space)
{
	u32 tgid = u->tgid;
	struct space *found = spaces.lookup(&tgid);
	struct target *target;
	u32 behind;

	if (found && found->image == u->seed) {
		*space = *found;
	} else {
		__builtin_memset(space, 0, sizeof(*space));
		space->image = u->seed;
	}
	target = find_target(tgid);
	behind = target ? target->unmaps - (u32)space->unmaps : 1;
	if (behind) {
		space->code = 0;
		space->generation = 0;
		space->epoch += behind;
	}
}

/* The id of the stack, if its frames have been sent and it is as it was then; else 0: follow it. */
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
	u->key.space = mix(space.image, space.generation);
	stack = find_known(u);
	if (stack && ((stack == last->id && u->key.space == last->space) || was_sent(stack))) {
		last->id = stack;
		last->space = u->key.space;
		return stack;
	}
	u->hash = mix(mix(space.image, space.epoch), from->pc);
	read_window(u);
	return 0;
}

/* Follows some frames; false if there are more. */
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

/* The id of a stack whose end is reached, or as much of it as there will be. */
static __always_inline u64 end_stack(void *ctx, struct unwinding *u)
{
	u8 copy;
	u64 stack = identify(u, &copy);

	if (!was_sent(stack))
		return announce_stack(ctx, u, stack, copy);
	if (!u->forgettable) {
		u->known.stack = stack;
		u->known.check = mix(u->known.check, stack);
		known_stacks.update(&u->key, &u->known);
	}
	return stack;
}

/* No program could be called that follows the stack. */
static __always_inline void abandon_stack(struct unwinding *u)
{
	count_loss(u->tgid, LOSS_STACK_SCRATCH_BUSY);
	release(u);
}

#endif
