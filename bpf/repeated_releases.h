/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* One release may pass several probes: functions that call each other. It counts once. */
#ifndef KWATCH_REPEATED_RELEASES_H
#define KWATCH_REPEATED_RELEASES_H

/* Whether this release is another function's part of the thread's last one. */
static __always_inline bool is_in_release(struct pt_regs *ctx, struct release *last)
{
	u64 place = INSTRUCTION_POINTER(ctx);

	return STACK_POINTER(ctx) <= last->sp && place != last->place &&
	       place != last->passed_place &&
	       return_address_of(ctx, last->sp, last->caller) == last->caller;
}

/*
 * operator delete calls another one or free, and a wrapper's free calls the real one: these are the
 * same release, seen at another probe while the first call's return address is still in place. If it
 * is not, or if this probe has seen the release before, it is a new one: another thread got the block
 * meanwhile. If frees are checked, such a call with another address counts as the same: the wrapper's
 * blocks begin elsewhere, and what it allocates for them is not recorded.
 */
static __always_inline bool is_repeated(struct thread *thread, struct pt_regs *ctx, u64 pointer,
					u64 cookie)
{
	u64 sp = STACK_POINTER(ctx), place = INSTRUCTION_POINTER(ctx);
	struct release *last = &thread->released;

#ifdef CHECKS
	if (last->pointer && is_in_release(ctx, last)) {
		if (last->pointer == pointer)
			last->passed_place = place;
		if (last->pointer == pointer && cookie & COOKIE_PASSES_NOTHING)
			last->pointer = 0; /* what remains on the stack must hide no later release */
		return true;
	}
#else
	if (last->pointer == pointer && is_in_release(ctx, last)) {
		last->passed_place = place;
		return true;
	}
#endif
	if (cookie & COOKIE_PASSES_NOTHING) {
		last->pointer = 0;
		return false;
	}
	last->pointer = pointer;
	last->sp = sp;
	last->caller = return_address_of(ctx, sp, 0);
	last->place = place;
	last->passed_place = 0;
	return false;
}

#endif
