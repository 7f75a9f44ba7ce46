/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Whether a call of an allocator function is nested in the pending one, or that has been left. */
#ifndef KWATCH_PENDING_CALLS_H
#define KWATCH_PENDING_CALLS_H

/* A call that has had nested calls for longer than this has been left without a return. */
#define STALE_NS 1000000000ULL

/*
 * The same function starts at the same depth again: a new call, not a tail call. Without cookies, all
 * functions with one signature look like the first one, and only the place of the probe differs.
 */
static __always_inline bool is_anew(struct pt_regs *ctx, struct thread *thread, u64 sp, u64 cookie)
{
#ifndef HEAP_COOKIE
	if (thread->place != INSTRUCTION_POINTER(ctx))
		return false;
#endif
	return sp == thread->sp && thread->function == COOKIE_FUNCTION(cookie) &&
	       thread->signature == COOKIE_SIGNATURE(cookie);
}

/* An exception has left the pending operator new: its return address was overwritten. */
static __always_inline bool has_thrown(struct pt_regs *ctx, struct thread *thread)
{
	return thread->signature == SIGNATURE_NEW &&
	       return_address_of(ctx, thread->sp, thread->caller) != thread->caller;
}

static __always_inline bool is_stale(struct thread *thread)
{
	u64 now = bpf_ktime_get_ns();

	if (!thread->nested_ns)
		thread->nested_ns = now;
	return now - thread->nested_ns >= STALE_NS;
}

/* The pending call will never return. */
static __always_inline void abandon_call(struct thread *thread)
{
	if (thread->nested)
		count_losses(thread->tgid, LOSS_HEAP_CALL_ABANDONED, thread->nested);
	thread->sp = 0;
	if (thread->signature == SIGNATURE_NEW)
		allocation_failed(thread);
}

static __always_inline bool is_nested(struct pt_regs *ctx, struct thread *thread, u64 cookie, u64 sp)
{
	if (!thread->sp)
		return false;
	if (sp > thread->sp || is_anew(ctx, thread, sp, cookie) || has_thrown(ctx, thread) ||
	    is_stale(thread)) {
		abandon_call(thread);
		return false;
	}
	thread->nested++;
	return true;
}

#endif
