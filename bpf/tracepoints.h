/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The context of each tracepoint's program: the arguments (raw tracepoints), or the record that perf
 * makes of them, whose first word belongs to the kernel (PERF_TRACEPOINTS; see events/.../format in
 * tracefs). kwatch/programs/tracepoints.py says which one is used, and why.
 */
#ifndef KWATCH_TRACEPOINTS_H
#define KWATCH_TRACEPOINTS_H

#define CLONE_VM 0x100
#define CLONE_THREAD 0x10000

/* bcc's own list of helpers may be older than these. */
static void *(*current_task)(void) = (void *)158; /* bpf_get_current_task_btf */
static void *(*registers_of)(void *task) = (void *)175; /* bpf_task_pt_regs: Linux 5.15 */

#ifdef PERF_TRACEPOINTS

struct enter_context {
	u64 reserved;
	u64 nr;
	u64 arguments[6];
};

struct exit_context {
	u64 reserved;
	u64 nr;
	s64 result;
};

struct newtask_context {
	u64 reserved;
	u32 tid;
	u8 comm[KWATCH_COMM_LEN];
	u64 clone_flags;
};

struct exec_context {
	u64 reserved;
	u32 filename;
	u32 tid;
	u32 old_tid;
};

struct signal_context {
	u64 reserved;
	u32 number;
	u32 error;
	u32 code;
};

/* What perf's record has of the siginfo_t: the members are in the same order. */
static __always_inline void signal_info(struct signal_context *ctx, u64 *info)
{
	info[0] = ctx->number | (u64)ctx->error << 32;
	info[1] = ctx->code;
}

/* The registers with which the thread entered the kernel. */
static __always_inline struct pt_regs *caller_registers(void *ctx)
{
	return registers_of(current_task());
}

static __always_inline struct pt_regs *exit_registers(void *ctx)
{
	return registers_of(current_task());
}

static __always_inline u32 new_tid(struct newtask_context *ctx)
{
	return ctx->tid;
}

#define CLONE_PARENT 0x8000
#define YOUNGER_SIBLINGS 16 /* added meanwhile: other threads' children, orphans */

static __always_inline u64 stack_at_call(void *ctx)
{
	return stack_of_pointer(registers_of(current_task()));
}

/* The new process, one of the youngest children of its parent; NULL for a thread. */
static __always_inline void *new_process(struct newtask_context *ctx)
{
	void *parent = (void *)bpf_get_current_task(), *child;
	u64 sibling;

	if (ctx->clone_flags & CLONE_THREAD)
		return NULL;
	if (ctx->clone_flags & CLONE_PARENT)
		parent = (void *)read_u64(parent, TASK_REAL_PARENT);
	sibling = read_u64(parent, TASK_CHILDREN + sizeof(u64));
#pragma unroll
	for (int i = 0; i < YOUNGER_SIBLINGS; i++) {
		child = (void *)sibling - TASK_SIBLING;
		if (read_u32(child, TASK_PID) == ctx->tid)
			return child;
		sibling = read_u64((void *)sibling, sizeof(u64));
	}
	return NULL;
}

#else

struct enter_context {
	u64 registers;
	u64 nr;
};

struct exit_context {
	u64 registers;
	s64 result;
};

struct newtask_context {
	u64 task;
	u64 clone_flags;
};

struct exec_context {
	u64 task;
	u64 old_tid;
};

struct signal_context {
	u64 number;
	u64 info;
};

static __always_inline void signal_info(struct signal_context *ctx, u64 *info)
{
	bpf_probe_read_kernel(info, 6 * sizeof(u64), (void *)ctx->info);
}

static __always_inline struct pt_regs *caller_registers(struct enter_context *ctx)
{
	return (struct pt_regs *)ctx->registers;
}

static __always_inline struct pt_regs *exit_registers(struct exit_context *ctx)
{
	return (struct pt_regs *)ctx->registers;
}

/* Of a system call's context; the registers are the first member of both. */
static __always_inline u64 stack_at_call(void *ctx)
{
	return stack_of(((struct enter_context *)ctx)->registers);
}

static __always_inline u32 new_tid(struct newtask_context *ctx)
{
	return read_u32((void *)ctx->task, TASK_PID);
}

static __always_inline void *new_process(struct newtask_context *ctx)
{
	return (void *)ctx->task;
}

#endif

#endif
