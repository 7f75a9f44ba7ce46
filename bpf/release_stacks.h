/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Whether a free carries its stack: always (FREE_STACKS), or while Python switches that on. Meanwhile
 * heap_enter hands frees over to heap_release, because the code that looks for a stack would make
 * every call of an allocator function slower.
 */
#ifndef KWATCH_RELEASE_STACKS_H
#define KWATCH_RELEASE_STACKS_H

/* By the lower bits of a process's id: an array lookup is the cheapest. Others may share its switch. */
BPF_ARRAY(release_switches, u8, RELEASE_SWITCHES);
BPF_PROG_ARRAY(release_programs, 1);

/* Not if the function has pushed registers: it may have changed the frame pointer, too. */
static __always_inline bool wants_release_stack(struct thread *thread, u64 cookie)
{
#ifdef FREE_STACKS
	return !COOKIE_PUSHED(cookie);
#elif defined(CHECKS)
	return false;
#else
	u32 index = thread->tgid & (RELEASE_SWITCHES - 1);
	u8 *is_on = release_switches.lookup(&index);

	return is_on && *is_on && !COOKIE_PUSHED(cookie);
#endif
}

/* Returns only if the program could not be called. No call is pending: its members are free. */
static __always_inline void hand_over_release(struct pt_regs *ctx, struct thread *thread,
					      u64 pointer, u8 function, u64 entry_sp)
{
	if (!pointer)
		return;
	thread->function = function;
	thread->pointer = pointer;
	thread->caller = entry_sp;
	release_programs.call(ctx, 0);
}

#ifdef FREE_STACKS
BPF_PROG_ARRAY(realloc_programs, 1); /* for programs of the other attach type: see heap_session.h */

/* Returns only if the program could not be called. The call is pending: its members stay. */
static __always_inline void unwind_realloc(struct pt_regs *ctx, bool at_entry)
{
	if (at_entry)
		release_programs.call(ctx, 0);
	else
		realloc_programs.call(ctx, 0);
}
#endif

#endif
