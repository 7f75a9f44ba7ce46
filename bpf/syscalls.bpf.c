/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* System calls: raw_syscalls sys_enter and sys_exit, paired by thread. */

#define CALL_ROLE(flags) ((flags) >> CALL_ROLE_SHIFT)
#define MREMAP_DONTUNMAP 4
#define PROT_EXEC 4
#define PR_SET_SYSCALL_USER_DISPATCH 59

BPF_ARRAY(call_flags, u8, 5 * CALL_NUMBERS);
BPF_HASH(calls, u32, struct call_in_progress, 65536);

static __always_inline u8 flags_of(u8 abi, u64 nr)
{
	u32 index = abi * CALL_NUMBERS + (nr < CALL_NUMBERS ? nr : CALL_NUMBERS - 1);
	u8 *flags = call_flags.lookup((int *)&index);

	return flags ? *flags : 0;
}

static __always_inline bool is_error(s64 result)
{
	return result < 0 && result >= -4095;
}

static __always_inline void fill_syscall(struct kwatch_syscall *event,
					 struct call_in_progress *call, u8 type, s64 result)
{
	u64 now = bpf_ktime_get_ns();

	event->type = type;
	event->abi = call->abi;
	event->nr = call->nr;
	event->time_ns = now;
	event->duration_ns = call->time_ns ? now - call->time_ns : 0;
	event->result = result;
	event->tgid = call->tgid;
	event->tid = call->tid;
}

static __always_inline void send_syscall(struct call_in_progress *call, u8 type, s64 result)
{
	int cpu = bpf_get_smp_processor_id();
#ifdef CALL_STACKS
	struct kwatch_stacked_syscall record = { .stack = call->stack };

	fill_syscall(&record.call, call, type, result);
#else
	struct kwatch_syscall record = {};

	fill_syscall(&record, call, type, result);
#endif
	if (!write_record(syscall_rings.lookup(&cpu), &record, sizeof(record), &call->records))
		count_loss(call->tgid, LOSS_SYSCALL_RING_FULL);
}

/* The call begins now: the time before was kwatch's own. A call that never returns has no time. */
static __always_inline void begin_call(struct call_in_progress *call)
{
	call->time_ns = call->active ? bpf_ktime_get_ns() : 0;
	if (!call->active && call->flags & CALL_TRACE && !call->waiting)
		send_syscall(call, EVENT_SYSCALL, 0);
}

#ifdef CALL_STACKS
#include "call_stack.bpf.c"
#endif

#if defined(HEAP) || defined(STACKS)
static __always_inline void send_memory(struct call_in_progress *call, u8 type, u64 address, u64 size)
{
#ifdef HEAP
	struct kwatch_heap event = { .type = type, .address = address, .size = size };

	send_heap(&event, call->tgid, call->tid, &call->records);
#endif
}

/* At once, before the call takes effect: kwatch then removes the process's return probes. */
static __always_inline void notice_dispatch(void *ctx, struct call_in_progress *call)
{
	struct kwatch_control event = {};

	if (call->arguments[0] != PR_SET_SYSCALL_USER_DISPATCH || !call->arguments[1])
		return;
	head(&event, EVENT_DISPATCH, call->tgid);
	send_control(ctx, &event, sizeof(event), call->tgid);
}

static __always_inline void memory_arguments(void *ctx, struct pt_regs *regs,
					     struct call_in_progress *call)
{
	u32 values[4] = {};

	call_arguments(regs, call->abi, call->arguments);
	if (CALL_ROLE(call->flags) == MEMORY_PRCTL)
		notice_dispatch(ctx, call);
	if (CALL_ROLE(call->flags) != MEMORY_OLD_MMAP)
		return;
	read_user(values, sizeof(values), (void *)call->arguments[0]);
#pragma unroll
	for (int i = 0; i < 4; i++)
		call->arguments[i] = values[i];
}

static __always_inline void unmapped(void *ctx, struct call_in_progress *call, u64 address, u64 size,
				     bool is_code)
{
#ifdef STACKS
	forget_code(ctx, call->tgid, address, size, is_code);
#endif
}

static __always_inline void memory_call(void *ctx, struct call_in_progress *call, s64 result)
{
	u64 *a = call->arguments;

	if (is_error(result))
		return;
	if (call->abi == ABI_I386 || call->abi == ABI_ARM)
		result = (u32)result; /* an address, which was sign-extended */
	switch (CALL_ROLE(call->flags)) {
	case MEMORY_MMAP:
	case MEMORY_OLD_MMAP:
		unmapped(ctx, call, result, a[1], a[2] & PROT_EXEC);
		send_memory(call, EVENT_MAP, result, a[1]);
		break;
	case MEMORY_MUNMAP:
		unmapped(ctx, call, a[0], a[1], false);
		send_memory(call, EVENT_UNMAP, a[0], a[1]);
		break;
	case MEMORY_MREMAP:
		unmapped(ctx, call, a[0], a[1], false);
		unmapped(ctx, call, result, a[2], false); /* MREMAP_FIXED replaces what was there */
		if (!(a[3] & MREMAP_DONTUNMAP))
			send_memory(call, EVENT_UNMAP, a[0], a[1]);
		send_memory(call, EVENT_MAP, result, a[2]);
		break;
	case MEMORY_BRK:
		send_memory(call, EVENT_BRK, result, 0);
		break;
	}
}
#else
static __always_inline void memory_arguments(void *ctx, struct pt_regs *regs,
					     struct call_in_progress *call)
{
}

static __always_inline void memory_call(void *ctx, struct call_in_progress *call, s64 result)
{
}
#endif

/* The thread's slot for its call in progress. It is kept between calls to save inserts. */
static __always_inline struct call_in_progress *call_slot(u32 tid, u32 tgid)
{
	struct call_in_progress *call = calls.lookup(&tid);
	struct call_in_progress empty = { .records = first_count() };

	if (call)
		return call;
	if (calls.update(&tid, &empty)) {
		count_loss(tgid, LOSS_CALLS_MAP_FULL);
		return NULL;
	}
	return calls.lookup(&tid);
}

/* The exec of a launched command is entered while it waits, and returns after that. */
static __always_inline bool still_waiting(struct call_in_progress *call)
{
	struct target *target;

	if (!call->waiting)
		return false;
	target = find_target(call->tgid);
	return target && target->flags & TARGET_WAITING;
}

int syscall_enter(struct enter_context *ctx)
{
	u64 id = bpf_get_current_pid_tgid(), nr = ctx->nr;
	u32 tid = id, tgid = id >> 32;
	struct pt_regs *regs = caller_registers(ctx);
	struct target *target;
	struct call_in_progress *call;
	u8 abi, flags;

	if (is_probe_call(nr))
		return 0;
	target = current_target(tgid);
	if (!target)
		return 0;
	abi = call_abi(regs, &nr);
	flags = flags_of(abi, nr);
	if (!flags)
		return 0;
	call = call_slot(tid, tgid);
	if (!call)
		return 0;
	call->tgid = tgid;
	call->tid = tid;
	call->nr = nr < 0x10000 ? nr : 0xffff;
	call->abi = abi;
	call->flags = flags;
	call->waiting = target->flags & TARGET_WAITING;
	if (flags & CALL_MEMORY)
		memory_arguments(ctx, regs, call);
	call->active = !(flags & CALL_NO_RETURN);
#ifdef CALL_STACKS
	if (flags & CALL_TRACE)
		take_call_stack(ctx, regs, call, target->mm_id);
#endif
	begin_call(call);
	return 0;
}

/*
 * A call that a seccomp filter refuses has a sys_exit but no sys_enter. True if this is such a call
 * and it is traced. (A filter may also make it succeed, which looks like the return of a call that is
 * not traced. A child's return from its fork finds no slot.)
 */
static __always_inline bool was_refused(struct exit_context *ctx, struct call_in_progress *call)
{
	struct pt_regs *regs = exit_registers(ctx);
	u64 nr;
	u8 abi;

	if (!is_error(ctx->result) || !find_target(call->tgid))
		return false;
	nr = call_number(regs);
	abi = call_abi(regs, &nr);
	if ((s64)nr < 0 || is_probe_call(nr) || !(flags_of(abi, nr) & CALL_TRACE))
		return false;
	call->nr = nr < 0x10000 ? nr : 0xffff;
	call->abi = abi;
	call->flags = CALL_TRACE;
	call->waiting = 0;
	call->time_ns = 0;
#ifdef CALL_STACKS
	call->stack = CALL_STACK_LOST;
#endif
	return true;
}

int syscall_exit(struct exit_context *ctx)
{
	u32 tid = bpf_get_current_pid_tgid();
	struct call_in_progress *call = calls.lookup(&tid);
	s64 result = ctx->result;

	if (!call || (!call->active && !was_refused(ctx, call)))
		return 0;
	call->active = 0;
	if (still_waiting(call))
		return 0;
	if (call->abi == ABI_I386 || call->abi == ABI_ARM)
		result = (s64)(s32)result;
	if (call->flags & CALL_TRACE)
		send_syscall(call, EVENT_SYSCALL, result);
	if (call->flags & CALL_MEMORY)
		memory_call(ctx, call, result);
	return 0;
}

/* The thread ends: its call in progress never returns. */
static __always_inline void end_call(u32 tid)
{
	struct call_in_progress *call = calls.lookup(&tid);

	if (!call)
		return;
	if (call->active && call->flags & CALL_TRACE && !still_waiting(call))
		send_syscall(call, EVENT_SYSCALL_UNFINISHED, 0);
	calls.delete(&tid);
}

/* The exec after which a process is no longer a target. */
static __always_inline void finish_call(u32 tid)
{
	struct call_in_progress *call = calls.lookup(&tid);

	if (!call || !call->active)
		return;
	call->active = 0;
	if (call->flags & CALL_TRACE)
		send_syscall(call, EVENT_SYSCALL, 0);
}

/* A thread that makes an exec takes over the leader's tid. */
static __always_inline void move_call(u32 from, u32 to)
{
	struct call_in_progress *call = calls.lookup(&from), copy;

	if (from == to || !call)
		return;
	copy = *call;
	copy.tid = to;
	calls.update(&to, &copy);
	calls.delete(&from);
}
