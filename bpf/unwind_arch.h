/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* How to apply the rules of unwind_rows.h, where x86-64 and arm64 differ. */
#ifndef KWATCH_UNWIND_ARCH_H
#define KWATCH_UNWIND_ARCH_H

#include "unwind_state.h"

#if defined(__x86_64__)

/* Leaves a signal handler: the kernel saved the registers on the stack. */
static __always_inline bool leave_signal(struct unwinding *u)
{
	struct two_words registers; /* sp, pc */
	u64 fp;

	u->uncacheable = 1;
	if (!read_word(u, u->sp + SIGNAL_X86_FP, &fp) ||
	    !read_two(u, u->sp + SIGNAL_X86_SP, &registers))
		return stop(u, STACK_UNREADABLE);
	u->fp = fp;
	u->fp_slot = 0;
	if (!enter_caller(u, registers.second, registers.first))
		return false;
	u->interrupted = 1;
	return true;
}

static __always_inline bool canonical_frame(struct unwinding *u, u32 rule, u64 *cfa)
{
	s64 offset = ROW_X86_CFA(rule);

	switch (ROW_KIND(rule)) {
	case ROW_SP:
		*cfa = u->sp + offset;
		return true;
	case ROW_PLT:
		*cfa = u->sp + 8 + (((u->pc - !u->interrupted) & 15) >= offset ? 8 : 0);
		return true;
	case ROW_FP:
		record_fp_dependency(u);
		*cfa = u->fp + offset;
		return true;
	}
	u->uncacheable = 1;
	return read_word(u, u->fp + offset, cfa);
}

/* `pair`: the two words below the CFA. */
static __always_inline bool restore_fp(struct unwinding *u, s64 where, u64 cfa,
				       struct two_words *pair)
{
	u64 at = cfa + 8 * where, fp;

	if (where == ROW_X86_FP_SAME)
		return true;
	if (where == -2) {
		u->fp = pair->first;
		u->fp_slot = at;
		return true;
	}
	if (where == ROW_X86_FP_AT_FP) {
		record_fp_dependency(u);
		at = u->fp;
	}
	if (!read_word(u, at, &fp))
		return false;
	u->fp = fp;
	u->fp_slot = at;
	return true;
}

static __always_inline bool apply_rule(struct unwinding *u, u32 rule)
{
	bool is_exact = u->count == 1 || u->interrupted; /* no call has overwritten what was popped */
	struct two_words pair;
	u64 cfa;

	if (!canonical_frame(u, rule, &cfa))
		return stop(u, STACK_UNREADABLE);
	/* A signal handler on an alternate stack does not come here: see leave_signal. */
	if (cfa < u->sp || cfa - u->sp > MAX_STACK_BYTES || (cfa == u->sp && !is_exact))
		return stop(u, STACK_CORRUPT);
	if (!read_two(u, cfa - 16, &pair) || !restore_fp(u, ROW_X86_FP(rule), cfa, &pair))
		return stop(u, STACK_UNREADABLE);
	record_dependency(u, cfa - 8, pair.second);
	return enter_caller(u, pair.second, cfa);
}

#elif defined(__aarch64__)

static __always_inline bool leave_signal(struct unwinding *u)
{
	struct two_words linked; /* x29, x30 */
	struct two_words registers; /* sp, pc */

	u->uncacheable = 1;
	if (!read_two(u, u->sp + SIGNAL_ARM64_FP, &linked) ||
	    !read_two(u, u->sp + SIGNAL_ARM64_SP, &registers))
		return stop(u, STACK_UNREADABLE);
	u->fp = linked.first;
	u->fp_slot = 0;
	if (!enter_caller(u, registers.second, registers.first))
		return false;
	u->link = RETURN_PC(linked.second);
	u->interrupted = 1;
	return true;
}

static __always_inline bool apply_rule(struct unwinding *u, u32 rule)
{
	u32 where = rule & ROW_ARM64_RA_MASK;
	u64 cfa = u->sp + ROW_ARM64_CFA(rule), slot, pc;
	struct two_words pair = {};

	if (rule & ROW_ARM64_FP_BASE) {
		record_fp_dependency(u);
		cfa = u->fp + ROW_ARM64_CFA(rule);
	}
	if (cfa < u->sp || cfa - u->sp > MAX_STACK_BYTES || (cfa == u->sp && !u->link))
		return stop(u, STACK_CORRUPT);
	slot = cfa - ROW_ARM64_SLOT(rule);
	if (where != ROW_ARM64_RA_REG && !read_two(u, slot, &pair))
		return stop(u, STACK_UNREADABLE);
	if (where == ROW_ARM64_RA_REG || where == ROW_ARM64_RA_REG_FP) {
		/* x30 is known only where a system call or a signal interrupted; calls overwrite it. */
		if (!u->link)
			return stop(u, STACK_UNSUPPORTED);
		pc = u->link;
	} else {
		pc = where == ROW_ARM64_RA_PAIR ? pair.second : pair.first;
		record_dependency(u, where == ROW_ARM64_RA_PAIR ? slot + 8 : slot, pc);
	}
	if (where == ROW_ARM64_RA_PAIR || where == ROW_ARM64_RA_REG_FP) {
		u->fp = pair.first;
		u->fp_slot = slot;
	}
	return enter_caller(u, RETURN_PC(pc), cfa);
}

#endif

#endif
