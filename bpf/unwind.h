/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Unwinds a user stack with the tables, frame by frame: from the caller of an allocator function that
 * returns, or from where a thread entered the kernel.
 *
 * A stack may be deeper than one program can unwind, so the programs that call this tail-call
 * themselves. Their state is too large for the BPF stack and is kept in a per-CPU array. Uprobe
 * programs stay on their CPU but can be preempted, so another one may need the same memory: each
 * claims it (see claim_scratch) before use.
 */
#ifndef KWATCH_UNWIND_H
#define KWATCH_UNWIND_H

#include "mapped_file.h"
#include "unwind_arch.h"
#include "unwind_state.h"

#define STEP_FRAMES 10 /* frames per program; a chain of tail calls has at least 32 */

static __always_inline void note_fp_step(struct unwinding *u)
{
	if (u->by_frame_pointer)
		return;
	u->exact = u->count;
	u->fp_step_pc = u->pc;
	u->fp_step_sp = u->sp;
	u->fp_step_fp = u->fp;
	u->fp_step_link = u->link;
	u->fp_step_interrupted = u->interrupted;
	u->fp_step_reason = u->reason;
}

static __always_inline bool by_frame_pointer(struct unwinding *u)
{
	u64 fp = u->fp;
	struct two_words record;

	note_fp_step(u);
	record_fp_dependency(u); /* also if this is the last step */
	if (u->by_frame_pointer && !fp)
		return stop(u, STACK_COMPLETE);
	if (fp & 7 || fp < u->sp || fp - u->sp > MAX_STACK_BYTES || !read_two(u, fp, &record))
		return stop(u, u->reason);
	record_dependency(u, fp + 8, record.second);
	u->by_frame_pointer = 1;
	u->fp = record.first;
	u->fp_slot = fp;
	return enter_caller(u, RETURN_PC(record.second), fp + 16);
}

/*
 * The mapping of an address: one that Python published, or one that was looked up. True if it has to
 * be looked up first.
 */
static __always_inline bool must_look(struct unwinding *u, struct space *space, u64 address,
				      struct code_mapping **mapping)
{
	*mapping = find_mapping(space, address, &u->hint);
	if (*mapping)
		return false;
	*mapping = looked_up(u, address);
	if (*mapping) {
		if (!(*mapping)->block_count)
			*mapping = NULL;
		return false;
	}
	return u->lookups < MAX_LOOKUPS;
}

/*
 * Goes to the caller's frame. False at the end, with the reason in u->end, and if code has to be
 * looked up first.
 */
static __always_inline bool unwind_frame(struct unwinding *u, struct space *space)
{
	u64 address = u->pc - !u->interrupted;
	struct code_mapping *mapping;
	u32 rule;

	if (must_look(u, space, address, &mapping)) {
		u->wanted = address;
		return false;
	}
	rule = mapping ? find_rule(mapping, address) : ROW_NONE;
	switch (ROW_KIND(rule)) {
	case ROW_NONE:
		u->reason = mapping ? STACK_NO_ROW : STACK_NO_MAPPING;
		return by_frame_pointer(u);
	case ROW_UNSUP:
		return stop(u, STACK_UNSUPPORTED);
	case ROW_END:
		return stop(u, STACK_COMPLETE);
	case ROW_SIGNAL:
		return leave_signal(u);
	}
	return apply_rule(u, rule);
}

#endif
