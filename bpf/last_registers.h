/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The registers of a thread at its end: they may hold the only pointers to blocks. Only for processes
 * whose memory kwatch holds until it has scanned it.
 */
#ifndef KWATCH_LAST_REGISTERS_H
#define KWATCH_LAST_REGISTERS_H

BPF_HASH(held, u32, u32, MAX_HELD); /* how many records of a process have been sent */

#define SIGNAL_GROUP_EXIT 4 /* include/linux/sched/signal.h */

/* Whether all threads of the process end, or those but the one that makes an exec. */
static __always_inline bool all_threads_end(void *signal)
{
	return read_u32(signal, SIGNAL_FLAGS) & SIGNAL_GROUP_EXIT ||
	       read_u64(signal, SIGNAL_EXEC_TASK);
}

/* Where the kernel saves a thread's registers when it enters: at the upper end of its stack. */
static __always_inline struct pt_regs *saved_registers(void *task)
{
	if (TASK_PT_REGS)
		return registers_of(current_task());
	return (void *)read_u64(task, TASK_STACK) + KERNEL_STACK - PT_REGS_SIZE;
}

/* The current thread's stack, outside a system call's tracepoint. */
static __always_inline u64 own_stack(void *task)
{
	if (TASK_PT_REGS)
		return stack_of_pointer(saved_registers(task));
	return stack_of((u64)saved_registers(task));
}

static __always_inline void send_last_registers(void *ctx, void *task, u32 tid, u32 tgid)
{
	struct kwatch_last_registers event = {};
	u32 *sent = held.lookup(&tgid);

	if (!sent || *sent >= MAX_LAST_REGISTERS)
		return;
	__sync_fetch_and_add(sent, 1);
	if (!user_registers(saved_registers(task), event.registers))
		return;
	head(&event.head, EVENT_LAST_REGISTERS, tgid);
	event.tid = tid;
	send_control(ctx, &event, sizeof(event), tgid);
}

#endif
