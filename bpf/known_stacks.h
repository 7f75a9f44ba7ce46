/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A cache of unwound stacks, each verified by the stack memory that it depended on. */
#ifndef KWATCH_KNOWN_STACKS_H
#define KWATCH_KNOWN_STACKS_H

#include "unwind_state.h"

#define KNOWN_BRANCHES 4 /* compared, of stacks that begin alike */

BPF_TABLE("lru_hash", struct known_key, struct known_stack, known_stacks, 8192);

/*
 * The id of the known stack, if nothing that it depended on has changed; otherwise 0, and `branch` is
 * the first difference.
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
 * The id of the stack, if it was unwound before and nothing has changed since; otherwise 0. Stacks
 * that begin alike, such as those of calls from two places in one function, are distinguished by the
 * first word that differs: it makes the next key.
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

#endif
