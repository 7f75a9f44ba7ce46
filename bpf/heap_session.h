/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Whether the return of an allocator function is caught: decided at its entry, where possible. */
#ifndef KWATCH_HEAP_SESSION_H
#define KWATCH_HEAP_SESSION_H

#ifdef UPROBE_SESSIONS
#define WORK_SYSCALL_EMU 8 /* enum syscall_work_bit, include/linux/thread_info.h */
#define WORK_SYSCALL_USER_DISPATCH 32

/* bpf_session_is_return(): the loader makes a call of the kernel's function of this one. */
static u64 (*session_is_return)(void) = (void *)SESSION_IS_RETURN;

/*
 * The kernel catches a return by a system call of the thread (x86-64, Linux 6.11). One whose calls go
 * to the program itself or to its tracer would not get past it.
 */
static __always_inline bool is_call_taken(struct slot *slot)
{
	u32 work = kernel_member(slot->task, TASK_TYPE, THREAD_INFO_WORK);

	return work & (WORK_SYSCALL_EMU | WORK_SYSCALL_USER_DISPATCH);
}

/* At the entry of an allocation. A return that does not count costs 500 ns, so it is not caught. */
static __always_inline int enter_session(struct pt_regs *ctx)
{
	struct slot *slot = calling_slot(ctx);
	u64 cookie;

	if (!slot)
		return LEAVE_RETURN;
	cookie = bpf_get_attach_cookie(ctx);
	note_call(cookie);
	if (is_nested(ctx, &slot->thread, cookie, entry_stack_pointer(ctx, cookie)))
		return LEAVE_RETURN;
	begin_call_of(ctx, &slot->thread, cookie);
	if (is_call_taken(slot)) {
		release_by_realloc(ctx, &slot->thread, cookie, RELEASE_WITHOUT_STACK);
		slot->thread.sp = 0;
		return LEAVE_RETURN;
	}
	release_by_realloc(ctx, &slot->thread, cookie, RELEASE_IN_SESSION);
	return 0;
}
#endif

#endif
