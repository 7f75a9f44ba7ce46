/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Allocations with their stacks: known ones, or unwound by a chain of tail calls that sends both. */

BPF_PROG_ARRAY(unwind_programs, 1);

/* Unwinds some frames, then calls itself for the next ones. */
int unwind_allocation(struct pt_regs *ctx)
{
	u32 tid = bpf_get_current_pid_tgid();
	struct thread *thread = threads.lookup(&tid);
	struct unwinding *u = thread ? claimed_scratch(thread->scratch) : NULL;

	if (!u)
		return LEAVE_RETURN;
	if (!follow_stack(u))
		unwind_programs.call(ctx, 0);
	u->allocation.stack = end_stack(ctx, u);
	send_thread(&u->allocation, thread);
	release(u);
	return LEAVE_RETURN;
}

/* Sets the event's stack. If it is not known, tail-called programs unwind it and send the event. */
static __always_inline void take_heap_stack(struct pt_regs *ctx, struct thread *thread,
					    struct kwatch_heap *event, u64 pc, u64 sp)
{
	struct registers from = { .pc = pc, .sp = sp, .fp = FRAME_POINTER(ctx) };
	struct unwinding *u = claim_scratch(thread->tgid, &thread->scratch);
	u64 stack;

	if (!u)
		return;
	u->mm_id = thread->mm_id;
	u->type = EVENT_STACK;
	stack = begin_stack(u, &from, &thread->last);
	if (stack) {
		release(u);
		event->stack = stack;
		return;
	}
	u->allocation = *event;
	unwind_programs.call(ctx, 0);
	abandon_stack(u);
}
