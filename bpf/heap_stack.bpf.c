/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Allocations and releases with their stacks: known ones, or unwound by a chain of tail calls that
 * sends both. Releases are sent at the entry of a function, whose programs may be of another attach
 * type than those at returns (see heap_session.h): they have a chain of their own.
 */

BPF_PROG_ARRAY(unwind_programs, 1);
BPF_PROG_ARRAY(unwind_release_programs, 1);

static __always_inline void unwind_more(struct pt_regs *ctx, bool at_entry)
{
	if (at_entry)
		unwind_release_programs.call(ctx, 0);
	else
		unwind_programs.call(ctx, 0);
}

/* Unwinds some frames, then calls itself for the next ones. */
static __always_inline int unwind_heap_stack(struct pt_regs *ctx, bool at_entry)
{
	struct thread *thread = pending_thread(ctx);
	struct unwinding *u = thread ? claimed_scratch(thread->scratch) : NULL;
	bool is_alloc;

	if (!u)
		return LEAVE_RETURN;
	if (!follow_stack(u))
		unwind_more(ctx, at_entry);
	u->allocation.stack = end_stack(ctx, u);
	is_alloc = u->allocation.type == EVENT_ALLOC;
	if (is_alloc)
		begin_block(&u->allocation, thread);
	else
		end_block(&u->allocation, thread);
	release(u);
	return is_alloc ? LEAVE_RETURN : 0;
}

int unwind_allocation(struct pt_regs *ctx)
{
	return unwind_heap_stack(ctx, false);
}

int unwind_release(struct pt_regs *ctx)
{
	return unwind_heap_stack(ctx, true);
}

/* Sets the event's stack. If it is not known, tail-called programs unwind it and send the event. */
static __always_inline void take_heap_stack(struct pt_regs *ctx, struct thread *thread,
					    struct kwatch_heap *event, u64 caller, u64 entry_sp,
					    bool at_entry)
{
	struct registers from = {
		.pc = RETURN_PC(caller),
		.sp = CALLER_STACK_POINTER(entry_sp),
		.fp = FRAME_POINTER(ctx),
	};
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
	unwind_more(ctx, at_entry);
	abandon_stack(u);
}

/* A release with its stack; the program of the function has handed it over: see release_stacks.h. */
static __always_inline int release_with_stack(struct pt_regs *ctx, bool at_entry)
{
	struct thread *thread = pending_thread(ctx);
	struct kwatch_heap event;
	u64 entry_sp;

	if (!thread)
		return 0;
	entry_sp = thread->sp ? thread->sp : thread->caller;
	event = release_event(thread, thread->sp ? EVENT_REALLOC_RELEASE : EVENT_FREE,
			      thread->pointer, thread->function);
	take_heap_stack(ctx, thread, &event, return_address_of(ctx, entry_sp, 0), entry_sp, at_entry);
	end_block(&event, thread);
	return 0;
}

int heap_release(struct pt_regs *ctx)
{
	return release_with_stack(ctx, true);
}

#ifdef FREE_STACKS
int heap_realloc_release(struct pt_regs *ctx)
{
	return release_with_stack(ctx, false);
}
#endif
