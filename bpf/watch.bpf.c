/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Hardware watchpoints: a program at perf events of type breakpoint. The processor reports a data
 * access after the instruction (x86-64) or before it (arm64); an instruction, before it.
 *
 * A program's own accesses arrive with interrupts disabled, those of the kernel like an NMI, and the
 * kernel runs no such program inside another (bpf_overflow_handler()), so one record per CPU is
 * enough. What it skips is missing from the records, but not from the events' own counts.
 */
#ifndef KWATCH_WATCH_BPF_C
#define KWATCH_WATCH_BPF_C

#define SIGNAL_STOP 19 /* SIGSTOP on x86-64 and arm64 */

#if defined(__x86_64__)
#define hit_registers pt_regs
#else
struct hit_registers { /* struct user_pt_regs */
	unsigned long regs[31];
	unsigned long sp, pc, pstate;
};
#endif

/* struct bpf_perf_event_data: include/uapi/linux/bpf_perf_event.h */
struct hit_context {
	struct hit_registers regs;
	u64 sample_period;
	u64 addr;
};

struct hit_in_progress {
	struct kwatch_hit event;
	struct last_stack last;
	u32 records;
	u8 scratch; /* of the unwinding under way */
};

BPF_PROG_ARRAY(unwind_hit_programs, 1);
BPF_HASH(watched, u32, struct watched, MAX_WATCHED);
BPF_PERCPU_ARRAY(hits, struct hit_in_progress, 1);

static __always_inline struct hit_in_progress *hit_of_cpu(void)
{
	int first = 0;

	return hits.lookup(&first);
}

#if defined(__x86_64__)

static __always_inline bool is_program(struct hit_context *ctx)
{
	return (ctx->regs.cs & 3) == 3; /* privilege level */
}

static __always_inline void hit_position(struct hit_context *ctx, struct registers *found)
{
	found->pc = ctx->regs.ip;
	found->sp = ctx->regs.sp;
	found->fp = ctx->regs.bp;
	found->link = 0;
}

#else

static __always_inline bool is_program(struct hit_context *ctx)
{
	return !(ctx->regs.pstate & 0xf); /* exception level 0 */
}

static __always_inline void hit_position(struct hit_context *ctx, struct registers *found)
{
	found->pc = ctx->regs.pc;
	found->sp = ctx->regs.sp;
	found->fp = ctx->regs.regs[29];
	found->link = RETURN_PC(ctx->regs.regs[30]);
}

#endif

/* The kernel accesses the memory, for a system call or, with no number, for a fault or a signal. */
static __always_inline void kernel_position(struct kwatch_hit *event, struct registers *found)
{
	void *task = (void *)bpf_get_current_task();
	struct pt_regs *regs = saved_registers(task);
	u64 nr = call_number(regs);

	event->flags |= HIT_IN_KERNEL;
	entry_registers(regs, found);
	if ((s64)nr < 0)
		return;
	event->abi = call_abi((u64)task, regs, &nr);
	event->nr = nr;
}

static __always_inline void begin_hit(struct hit_context *ctx, struct kwatch_hit *event,
				      struct watched *watched, struct registers *from)
{
	u64 id = bpf_get_current_pid_tgid();

	event->type = EVENT_HIT;
	event->abi = 0;
	event->nr = KWATCH_NO_CALL;
	event->flags = 0;
	event->tgid = id >> 32;
	event->tid = id;
	event->time_ns = bpf_ktime_get_ns();
	event->address = ctx->addr;
	event->value = 0;
	event->stack = 0;
	if (is_program(ctx))
		hit_position(ctx, from);
	else
		kernel_position(event, from);
	event->ip = from->pc;
	event->sp = from->sp;
	if (watched->reads_value && !read_user(&event->value, sizeof(u64), (void *)event->address))
		event->flags |= HIT_HAS_VALUE;
}

static __always_inline void send_hit(struct hit_in_progress *hit)
{
	if (!write_hit(&hit->event, &hit->records))
		count_loss(hit->event.tgid, LOSS_HIT_RING_FULL);
}

/* Unwinds some frames, then calls itself for the next ones. */
int unwind_hit(struct hit_context *ctx)
{
	struct hit_in_progress *hit = hit_of_cpu();
	struct unwinding *u = hit ? claimed_scratch(hit->scratch) : NULL;

	if (!u)
		return 0;
	if (!follow_stack(u))
		unwind_hit_programs.call((struct pt_regs *)ctx, 0);
	hit->event.stack = end_stack(ctx, u);
	release(u);
	send_hit(hit);
	return 0;
}

/* Sets the stack of the hit. If it is not known, tail-called programs unwind it and send the hit. */
static __always_inline void take_hit_stack(struct hit_context *ctx, struct hit_in_progress *hit,
					   struct registers *from, u64 mm_id)
{
	struct unwinding *u = claim_scratch(hit->event.tgid, &hit->scratch);

	if (!u)
		return;
	u->mm_id = mm_id;
	u->type = EVENT_STACK;
	hit->event.stack = begin_stack(u, from, &hit->last);
	if (hit->event.stack) {
		release(u);
		return;
	}
	/* After a call instruction the place is the beginning of a function: it is looked up itself. */
	u->interrupted = hit->event.nr == KWATCH_NO_CALL;
	unwind_hit_programs.call((struct pt_regs *)ctx, 0);
	abandon_stack(u);
}

/* Where events belong to CPUs, other processes may use the same address; a fork's child may, too. */
int watch_hit(struct hit_context *ctx)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct watched *watched_here = watched.lookup(&tgid);
	struct target *target = find_target(tgid);
	struct hit_in_progress *hit = hit_of_cpu();
	struct registers from;

	if (!watched_here || !target || !hit || watched_here->mm_id != target->mm_id)
		return 0;
	begin_hit(ctx, &hit->event, watched_here, &from);
	if (watched_here->stops)
		bpf_send_signal(SIGNAL_STOP);
	take_hit_stack(ctx, hit, &from, target->mm_id);
	send_hit(hit);
	return 0;
}

#endif
