/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Stacks of system calls: known ones, or unwound by tail calls that then enter the call. */

/* Not shared with the heap: programs that tail-call each other must have one type. */
BPF_PROG_ARRAY(unwind_call_programs, 1);

/* Unwinds some frames, then calls itself for the next ones. */
int unwind_call(struct enter_context *ctx)
{
	struct slot *slot = find_slot(stack_at_call(ctx));
	struct unwinding *u;

	if (!slot)
		return 0;
	u = claimed_scratch(slot->call.scratch);
	if (!u)
		return 0;
	if (!follow_stack(u))
		unwind_call_programs.call(ctx, 0);
	slot->call.stack = end_stack(ctx, u);
	release(u);
	enter_call(ctx, slot);
	return 0;
}

/* Why the call gets no stack; CALL_STACK_LOST if it gets one. */
static __always_inline u64 without_stack(struct call_in_progress *call)
{
	if (call->waiting)
		return CALL_STACK_OFF;
	if (call->abi == ABI_I386 || call->abi == ABI_ARM)
		return CALL_STACK_UNSUPPORTED;
	return CALL_STACK_LOST;
}

/* The stack of a mapping is kept with those of allocations, unless its call counts too. */
static __always_inline u8 call_stack_type(struct call_in_progress *call)
{
#ifdef CALL_STACKS
	if (call->flags & CALL_TRACE)
		return EVENT_CALL_STACK;
#endif
	return EVENT_STACK;
}

/* Sets the call's stack. If it is not known, tail-called programs unwind it and enter the call. */
static __always_inline void take_call_stack(void *ctx, struct pt_regs *regs,
					    struct call_in_progress *call, u32 owner)
{
	u8 type = call_stack_type(call);
	struct target *target;
	struct registers from;
	struct unwinding *u;

	call->stack = without_stack(call);
	if (call->stack != CALL_STACK_LOST)
		return;
	if (type != EVENT_STACK || !owner) /* a mapping is in the owner's memory */
		owner = call->tgid;
	target = find_target(owner);
	if (!target)
		return;
	u = claim_scratch(owner, &call->scratch);
	if (!u)
		return;
	u->mm_id = target->mm_id;
	u->type = type;
	entry_registers(regs, &from);
	call->stack = begin_stack(u, &from, &call->last);
	if (call->stack) {
		release(u);
		return;
	}
	unwind_call_programs.call(ctx, 0);
	abandon_stack(u);
}
