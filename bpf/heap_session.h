/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Whether the return of an allocator function may be caught: decided at its entry, where possible. */
#ifndef KWATCH_HEAP_SESSION_H
#define KWATCH_HEAP_SESSION_H

/*
 * A session program (Linux 6.13) runs at the entry and at the return of a function, and decides at the
 * entry whether its return is caught: it is not after this result. Other programs ignore the result
 * of a return. The programs at returns are sessions, and so are those at ret instructions, because tail
 * calls do not cross attach types. Those at entries are not: in a process that they do not trace, the
 * kernel would catch the returns, also of functions that throw (uprobe_multi_link_handler()).
 */
#ifdef UPROBE_SESSIONS
#define LEAVE_RETURN 1
#else
#define LEAVE_RETURN 0
#endif

#ifdef UPROBE_SESSIONS
#define WORK_SYSCALL_EMU 8 /* enum syscall_work_bit, include/linux/thread_info.h */
#define WORK_SYSCALL_USER_DISPATCH 32

/* bpf_session_is_return(): the loader makes a call of the kernel's function of this one. */
static u64 (*session_is_return)(void) = (void *)SESSION_IS_RETURN;

/*
 * The kernel catches a return by a system call of the thread (x86-64, Linux 6.11). One whose calls go
 * to the program itself or to its tracer would not get past it.
 */
static __always_inline bool is_call_taken(void)
{
	u64 work = read_u64((void *)bpf_get_current_task(), THREAD_INFO_WORK);

	return work & (WORK_SYSCALL_EMU | WORK_SYSCALL_USER_DISPATCH);
}

/* At the entry of a function, after heap_entry: the program that was attached last runs first. */
static __always_inline int may_catch_return(struct pt_regs *ctx)
{
	u32 tid = bpf_get_current_pid_tgid();
	struct thread *thread;

	if (!is_call_taken())
		return 0;
	thread = threads.lookup(&tid);
	if (thread && thread->sp == STACK_POINTER(ctx))
		thread->sp = 0;
	return LEAVE_RETURN;
}
#endif

#endif
