/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Copies of stacks that lead to unknown code: Python unwinds them once it knows the code.
 */
#ifndef KWATCH_STACK_COPY_H
#define KWATCH_STACK_COPY_H

#include "unwind_state.h"

#define COPY_PIECES 4
#define COPY_HALVINGS 5
/* The budget of stacks with the same frames up to the unknown mapping: at most 512 copies. */
#define COPY_BUDGET 65536
#define COPY_COST 128 /* of a new stack; one that was sent before costs 1 */

BPF_TABLE("lru_hash", u64, u32, stacks_copied, 4096);

BPF_PERF_OUTPUT(stack_ring);

/* The unwinder reached an unknown mapping, which Python may know when it gets the stack. */
static __always_inline bool is_unfinished(struct unwinding *u)
{
	return u->fp_step_reason == STACK_NO_MAPPING;
}

/* From the first frame without a table on. */
static __always_inline void begin_pieces(struct unwinding *u)
{
	u->memory.offset = 0;
	u->memory.size = KWATCH_STACK_COPY;
}

/*
 * Reads the next piece of the stack's memory; false at its end. Its size is kept in memory, where the
 * verifier does not track it; otherwise it would check the rest of the program once for each size.
 */
static __always_inline bool read_piece(struct unwinding *u)
{
	struct kwatch_stack_memory *memory = &u->memory;

#pragma clang loop unroll(disable)
	for (int i = 0; i < COPY_HALVINGS; i++) {
		u32 size = *(volatile u32 *)&memory->size & (2 * KWATCH_STACK_COPY - 1);

		if (!read_user(u->words, size, (void *)(u->fp_step_sp + memory->offset)))
			return true;
		memory->size = size >> 1; /* the stack ends before that */
	}
	return false;
}

#define HASH_STEP 8 /* words; the size of a piece is a multiple */

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
	memory->pc = u->fp_step_pc;
	memory->sp = u->fp_step_sp;
	memory->fp = u->fp_step_fp;
	memory->link = u->fp_step_link;
	memory->frame = u->exact - 1;
	memory->interrupted = u->fp_step_interrupted;
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

/* The part of the budget that was spent on stacks that begin like this one. */
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

#endif
