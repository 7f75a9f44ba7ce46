/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* System calls: raw_syscalls sys_enter and sys_exit, paired by thread. */

#define CALL_ROLE(flags) ((flags) >> CALL_ROLE_SHIFT)
#define IS_SPECIAL(flags, role) \
	((flags) & CALL_SPECIAL && CALL_ROLE(flags) == (role))

BPF_ARRAY(call_flags, u8, 5 * CALL_NUMBERS);

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
					 struct call_in_progress *call, u8 type, s64 result,
					 u64 now)
{
	event->type = type;
	event->abi = call->abi;
	event->nr = call->nr;
	event->time_ns = now;
	event->duration_ns = call->time_ns ? now - call->time_ns : 0;
	event->result = result;
	event->tgid = call->tgid;
	event->tid = call->tid;
}

#ifdef RECORD
#include "record.h"
#else
/* `now`: when the call ended. */
static __always_inline void send_syscall(struct call_in_progress *call, u8 type, s64 result, u64 now)
{
#ifdef CALL_STACKS
	SYSCALL_RECORD record = { .stack = call->stack };

	fill_syscall(&record.call, call, type, result, now);
#else
	SYSCALL_RECORD record = {};

	fill_syscall(&record, call, type, result, now);
#endif
	if (!write_syscall(&record, &call->records))
		count_loss(call->tgid, LOSS_SYSCALL_RING_FULL);
}
#endif

#ifdef SUMMED_CALLS
#include "call_sums.h"
#endif

/* Adds the call to a sum, or sends it, perhaps in another program that this one ends in. */
static __always_inline void count_call(void *ctx, struct slot *slot, s64 result, u64 now)
{
#ifdef RECORD
	record_return(ctx, slot, result, now);
	return;
#endif
#ifdef SUMMED_CALLS
	if (sum_call(slot, result, now))
		return;
#endif
	send_syscall(&slot->call, EVENT_SYSCALL, result, now);
}

/* The call begins now: the time before was kwatch's own. A call that never returns has no time. */
static __always_inline void begin_call(struct call_in_progress *call)
{
	call->time_ns = call->state ? bpf_ktime_get_ns() : 0;
	if (!call->state && call->flags & CALL_TRACE && !call->waiting)
		send_syscall(call, EVENT_SYSCALL, 0, bpf_ktime_get_ns());
}

/* What its arguments point to is read in another program, which begins the call. */
static __always_inline void enter_call(void *ctx, struct slot *slot)
{
#ifdef RECORD
	capture_entry(ctx, slot);
#endif
	begin_call(&slot->call);
}

#ifdef STACKS
#include "call_stack.bpf.c"
#endif
#ifdef RECORD
#include "capture.bpf.c"
#endif
#include "interrupted_calls.h"

#include "memory_calls.h"

/*
 * A new thread of a target, or a process that becomes one by its exec: its next return is of a call
 * that does not count.
 */
static __always_inline void begin_thread(u32 tid, u32 tgid)
{
	struct noted_thread born = { .tgid = tgid, .state = CALL_BORN };

	noted_threads.update(&tid, &born);
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

static __always_inline bool wants_stack(struct call_in_progress *call)
{
#ifdef CALL_STACKS
	if (call->flags & CALL_TRACE)
		return true;
#endif
#ifdef HEAP_STACKS
	return maps_for_itself(call);
#else
	return false;
#endif
}

/* The number of a call, or of the one inside i386's socketcall and ipc. Sets its flags. */
static __always_inline u64 inner_number(struct pt_regs *regs, u8 abi, u64 nr, u8 *flags)
{
	u64 first, inner = 0;

	if (abi == ABI_I386 && nr >= SOCKETCALL_NUMBERS)
		nr = CALL_NUMBERS - 1; /* the program's own invention */
	*flags = flags_of(abi, nr);
	if (!(*flags & CALL_SPECIAL) || CALL_ROLE(*flags) < SPECIAL_SOCKETCALL)
		return nr;
	first = first_argument_i386(regs);
	if (CALL_ROLE(*flags) == SPECIAL_SOCKETCALL && first - 1 < MAX_SOCKETCALL)
		inner = SOCKETCALL_NUMBERS + first;
	first &= 0xffff; /* the upper half of ipc's is a version */
	if (CALL_ROLE(*flags) == SPECIAL_IPC && first < 32 && IPC_CALLS >> first & 1)
		inner = IPC_NUMBERS + first;
	if (!inner)
		return nr;
	*flags = flags_of(abi, inner);
	return inner;
}

static __always_inline void count_lost_call(struct pt_regs *regs, u64 nr)
{
	u8 abi = call_abi(bpf_get_current_task(), regs, &nr), flags;

	inner_number(regs, abi, nr, &flags);
	if (flags & CALL_TRACE)
		count_no_room();
}

int syscall_enter(struct enter_context *ctx)
{
	u64 nr = ctx->nr;
	struct pt_regs *regs = caller_registers(ctx);
	struct slot *slot;
	struct call_in_progress *call;
	u8 abi, flags;

	if (is_probe_call(regs, nr))
		return 0;
	slot = current_slot(stack_at_call(ctx));
	if (!slot)
		count_lost_call(regs, nr);
	if (!slot || !slot->is_target)
		return 0;
#ifdef HEAP
	if (slot->owner)
		note_unseen(slot);
#endif
	abi = call_abi(slot->task, regs, &nr);
	nr = inner_number(regs, abi, nr, &flags);
	if (slot->flags & TARGET_HEAP_ONLY)
		flags = flags & CALL_MEMORY ? flags & ~CALL_TRACE : 0;
	if (!flags)
		return 0;
	call = &slot->call;
	if (call->state == CALL_UNSEEN)
		noted_threads.delete(&slot->tid);
	if (call->interrupted && resume_call(regs, call, nr, abi, flags))
		return 0;
	call->nr = nr < 0x10000 ? nr : 0xffff;
	call->abi = abi;
	call->flags = flags;
	call->waiting = !!(slot->flags & TARGET_WAITING);
	if (flags & CALL_MEMORY)
		memory_arguments(ctx, regs, slot);
	call->state = flags & CALL_NO_RETURN ? CALL_NONE : CALL_ENTERED;
#ifdef RECORD
	record_entry(regs, slot);
#endif
#ifdef STACKS
	if (wants_stack(call))
		take_call_stack(ctx, regs, call, slot->owner);
#endif
	enter_call(ctx, slot);
	return 0;
}

/* SYSCALL_WORK_SECCOMP, _SYSCALL_TRACE, _SYSCALL_EMU: include/linux/thread_info.h, Linux 5.11. */
#define GUARDED_WORK (1 << 0 | 1 << 2 | 1 << 3)

/* Whether a seccomp filter or a tracer can answer the thread's calls. */
static __always_inline bool is_guarded(struct slot *slot)
{
	if (THREAD_INFO_WORK)
		return kernel_member(slot->task, TASK_TYPE, THREAD_INFO_WORK) & GUARDED_WORK;
	return kernel_member(slot->task, TASK_TYPE, THREAD_INFO_FLAGS) & GUARDED_FLAGS;
}

#define SIGSYS_BIT (1 << 30)

/* The signals that the current thread is about to take, or blocks. */
static __always_inline u64 pending_signals(void)
{
	void *task = (void *)bpf_get_current_task();
	void *process = (void *)read_u64(task, TASK_SIGNAL);

	return read_u64(task, TASK_PENDING) | read_u64(process, SIGNAL_SHARED_PENDING);
}

/*
 * A call that a filter or a tracer answers has a sys_exit but no sys_enter (kernel/entry/common.c,
 * Linux 5.11; arch/x86 and arch/arm64 before). True if this is the return of one that is traced.
 */
static __always_inline bool was_answered(struct exit_context *ctx, struct slot *slot)
{
	struct pt_regs *regs = exit_registers(ctx);
	struct call_in_progress *call = &slot->call;
	u64 nr;
	u8 abi, flags;

	if (call->interrupted)
		stays_interrupted(call, interrupted_calls.lookup(&call->tid), call->tid);
	if (call->state != CALL_NONE || !is_guarded(slot)) {
		call->state = CALL_NONE;
		return false;
	}
	nr = call_number(regs);
	if ((s64)nr < 0 || is_probe_call(regs, nr))
		return false;
	abi = call_abi(slot->task, regs, &nr);
	nr = inner_number(regs, abi, nr, &flags);
	if (!(flags & CALL_TRACE) || slot->flags & (TARGET_WAITING | TARGET_HEAP_ONLY))
		return false;
	call->nr = nr < 0x10000 ? nr : 0xffff;
	call->abi = abi;
	call->flags = CALL_TRACE;
	call->waiting = 0;
	call->time_ns = 0;
#ifdef CALL_STACKS
	call->stack = CALL_STACK_LOST;
#endif
#ifdef RECORD
	take_registers(regs, slot);
#endif
	/* With a signal, the number stands in for a result. The program's handler makes one, if any. */
	return !(pending_signals() & SIGSYS_BIT && hold_call(regs, call, ERESTART_FIRST));
}

/* True if the result of the call, which has returned, is held now. */
static __always_inline bool hold_returned(struct pt_regs *regs, struct slot *slot, s64 result)
{
#ifdef RECORD
	send_kept(slot, false);
#endif
	return hold_call(regs, &slot->call, result);
}

/* False if it is not known yet how the call ends. Corrects results that look like errors. */
static __always_inline bool has_ended(struct exit_context *ctx, struct slot *slot, s64 *result)
{
	struct pt_regs *regs = exit_registers(ctx);
	struct call_in_progress *call = &slot->call;

	if (IS_SPECIAL(call->flags, SPECIAL_SIGRETURN)) {
		return_from_handler(regs, call, *result);
		*result = 0;
		return true;
	}
	if (is_restart(*result) || *result == EINTR_RESULT)
		return !hold_returned(regs, slot, *result);
	if (IS_SPECIAL(call->flags, SPECIAL_KILL))
		return !(pending_signals() && hold_returned(regs, slot, *result));
	if (IS_SPECIAL(call->flags, SPECIAL_NEVER_FAILS))
		*result = (u32)*result;
	if (IS_SPECIAL(call->flags, SPECIAL_SETS_USER))
		slot->generation = 0; /* its next event takes the user */
	return true;
}

/* The first return of a thread that has entered no call yet counts only if it was noted to be in none. */
static __always_inline void meet_thread(struct slot *slot)
{
	struct noted_thread *noted = noted_threads.lookup(&slot->tid);

	if (!noted)
		return;
	slot->call.state = noted->state;
	noted_threads.delete(&slot->tid);
}

int syscall_exit(struct exit_context *ctx)
{
	struct slot *slot = current_slot(stack_at_call(ctx));
	struct call_in_progress *call;
	s64 result = ctx->result;
	u64 now;

	if (!slot || !slot->is_target)
		return 0;
	call = &slot->call;
	if (call->state == CALL_UNSEEN)
		meet_thread(slot);
	if (call->state != CALL_ENTERED && !was_answered(ctx, slot))
		return 0;
	call->state = CALL_NONE;
	if (still_waiting(call))
		return 0;
	if (call->abi == ABI_I386 || call->abi == ABI_ARM)
		result = (s64)(s32)result;
	if ((result < 0 || call->flags & CALL_SPECIAL) && !has_ended(ctx, slot, &result))
		return 0;
	now = bpf_ktime_get_ns();
	if (call->flags & CALL_MEMORY) {
		memory_call(ctx, call, result);
		if (call->flags & CALL_TRACE)
			send_syscall(call, EVENT_SYSCALL, result, now);
		return 0;
	}
	if (call->flags & CALL_TRACE)
		count_call(ctx, slot, result, now);
	return 0;
}

/* The thread ends: its call in progress never returns. */
static __always_inline void end_call(struct slot *slot)
{
	struct call_in_progress *call = &slot->call;

	drop_interrupted(call, call->tid);
	if (call->state != CALL_ENTERED || !(call->flags & CALL_TRACE) || still_waiting(call))
		return;
#ifdef RECORD
	send_kept(slot, true);
#endif
	send_syscall(call, EVENT_SYSCALL_UNFINISHED, 0, bpf_ktime_get_ns());
}

/* The exec after which a process is no longer a target. */
static __always_inline void finish_call(struct slot *slot)
{
	struct call_in_progress *call = &slot->call;

	if (call->state != CALL_ENTERED)
		return;
	call->state = CALL_NONE;
	if (!(call->flags & CALL_TRACE))
		return;
#ifdef RECORD
	send_kept(slot, true);
#endif
	send_syscall(call, EVENT_SYSCALL, 0, bpf_ktime_get_ns());
}

#ifdef RECORD
#include "record_events.bpf.c"
#endif
