/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Calls that a signal interrupts are one call to the program, whether the kernel makes them again or
 * returns EINTR. Their result is held until the thread's next event tells which one it is.
 */
#ifndef KWATCH_INTERRUPTED_CALLS_H
#define KWATCH_INTERRUPTED_CALLS_H

/* The kernel's own results, which no program gets: include/linux/errno.h. */
#define ERESTART_FIRST (-512) /* ERESTARTSYS */
#define ERESTART_LAST (-516) /* ERESTART_RESTARTBLOCK */
#define ENOIOCTLCMD_RESULT (-515)
#define EINTR_RESULT (-4)

static __always_inline bool is_restart(s64 result)
{
	return result <= ERESTART_FIRST && result >= ERESTART_LAST && result != ENOIOCTLCMD_RESULT;
}

/* The held call is over, or its thread is. */
static __always_inline void send_interrupted(struct interrupted_call *held, u8 type, s64 result)
{
	u64 spent = held->call.time_ns;

	held->call.time_ns = spent ? bpf_ktime_get_ns() - spent : 0;
	if (held->call.flags & CALL_TRACE)
		send_syscall(&held->call, type, result, bpf_ktime_get_ns());
}

/* The held call never returns: its thread ends, makes an exec, or has left it by longjmp(). */
static __always_inline void drop_interrupted(struct call_in_progress *call, u32 tid)
{
	struct interrupted_call *held = call->interrupted ? interrupted_calls.lookup(&tid) : NULL;

	call->interrupted = 0;
	if (!held)
		return;
	send_interrupted(held, EVENT_SYSCALL_UNFINISHED, 0);
	interrupted_calls.delete(&tid);
}

/*
 * The thread with an interrupted call makes another: it has got EINTR, or is in a handler. False if
 * no call is held any more.
 */
static __always_inline bool stays_interrupted(struct call_in_progress *call,
					      struct interrupted_call *held, u32 tid)
{
	if (held && is_restart(held->result)) {
		held->in_handler = 1;
		return true;
	}
	if (held) {
		send_interrupted(held, EVENT_SYSCALL, held->result);
		interrupted_calls.delete(&tid);
	}
	call->interrupted = 0;
	return false;
}

/* True if the call's result is held now. */
static __always_inline bool hold_call(struct pt_regs *regs, struct call_in_progress *call, s64 result)
{
	struct interrupted_call held = { .call = *call, .result = result };
	u32 tid = call->tid;

	drop_interrupted(call, tid);
	user_position(regs, &held.pc, &held.sp);
	held.call.time_ns = call->time_ns ? bpf_ktime_get_ns() - call->time_ns : 0;
	call->interrupted = !interrupted_calls.update(&tid, &held);
	return call->interrupted;
}

/* The thread with an interrupted call enters one: true if that is the same call, made again. */
static __always_inline bool resume_call(struct pt_regs *regs, struct call_in_progress *call, u64 nr,
					u8 abi, u8 flags)
{
	u32 tid = call->tid;
	struct interrupted_call *held = interrupted_calls.lookup(&tid);
	bool was_in_handler = held && held->in_handler;
	u64 pc, sp;

	if (!stays_interrupted(call, held, tid) || !held)
		return false;
	user_position(regs, &pc, &sp);
	if (abi != held->call.abi || pc != held->pc || sp != held->sp)
		return false;
	if (nr != held->call.nr && !IS_SPECIAL(flags, SPECIAL_RESTART))
		return false;
	if (was_in_handler) {
		drop_interrupted(call, tid);
		return false;
	}
	call->nr = held->call.nr;
	call->abi = abi;
	call->flags = held->call.flags;
	call->waiting = 0;
	call->time_ns = bpf_ktime_get_ns() - held->call.time_ns;
#ifdef STACKS
	call->stack = held->call.stack;
#endif
#ifdef RECORD
	call->recorded = held->call.recorded;
#endif
	call->state = CALL_ENTERED;
	call->interrupted = 0;
	interrupted_calls.delete(&tid);
	return true;
}

/* A signal handler returns. If it returns to the held call, that is over, or is made again. */
static __always_inline void return_from_handler(struct pt_regs *regs, struct call_in_progress *call,
						s64 result)
{
	u32 tid = call->tid;
	struct interrupted_call *held = call->interrupted ? interrupted_calls.lookup(&tid) : NULL;
	u64 pc, sp;

	if (!held)
		return;
	user_position(regs, &pc, &sp);
	if (sp != held->sp || pc > held->pc)
		return;
	if (pc < held->pc) {
		held->in_handler = 0; /* it returns to the instruction before */
		return;
	}
	send_interrupted(held, EVENT_SYSCALL, result);
	call->interrupted = 0;
	interrupted_calls.delete(&tid);
}

#endif
