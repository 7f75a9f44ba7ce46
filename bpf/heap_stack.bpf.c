/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* An allocation with its stack: known, or unwound by a chain of tail calls that sends both. */

BPF_PROG_ARRAY(unwind_programs, 1);

/*
 * The mappings of the thread's image. There are none while Python does not know of the last code
 * that was unmapped; what addresses mean has changed as often since.
 */
static __always_inline void space_of(struct thread *thread, struct space *space)
{
	u32 tgid = thread->tgid;
	struct space *found = spaces.lookup(&tgid);
	struct target *target;
	u32 behind;

	if (found && found->image == thread->seed) {
		*space = *found;
	} else {
		__builtin_memset(space, 0, sizeof(*space));
		space->image = thread->seed;
	}
	target = find_target(tgid);
	behind = target ? target->unmaps - (u32)space->unmaps : 1;
	if (behind) {
		space->code = 0;
		space->generation = 0;
		space->epoch += behind;
	}
}

static __always_inline void key_of(struct known_key *key, struct unwinding *u, struct space *space)
{
	key->sp = u->base;
	key->pc = u->frames[0];
	key->space = mix(space->image, space->generation);
}

/* The stack's end is reached, or as much of it as there will be. */
static __always_inline int finish_stack(struct pt_regs *ctx, struct thread *thread,
					struct unwinding *u, struct space *space)
{
	struct known_key key;
	u64 stack;
	u8 copy;

	stack = identify(u, &copy);
	key_of(&key, u, space);
	if (!was_sent(stack)) {
		stack = announce_stack(ctx, u, stack, copy);
	} else if (!u->forgettable) {
		u->known.stack = stack;
		u->known.check = mix(u->known.check, stack);
		known_stacks.update(&key, &u->known);
	}
	u->event.stack = stack;
	send_thread(&u->event, thread);
	release(u);
	return 0;
}

/* Follows some frames, then calls itself for the next. */
int unwind_frames(struct pt_regs *ctx)
{
	u32 tid = bpf_get_current_pid_tgid();
	struct thread *thread = threads.lookup(&tid);
	struct unwinding *u;
	struct space space;
	int number;

	if (!thread)
		return 0;
	number = thread->scratch;
	u = unwindings.lookup(&number);
	if (!u)
		return 0;
	space_of(thread, &space);
	if (u->wanted) {
		look_up_code(u);
		u->wanted = 0;
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < STEP_FRAMES; i++)
		if (!unwind_frame(u, &space))
			break;
	if (!u->done)
		unwind_programs.call(ctx, 0);
	return finish_stack(ctx, thread, u, &space);
}

/* Sends the event with its stack, now or in the programs that follow; false if that cannot be. */
static __always_inline bool send_with_stack(struct pt_regs *ctx, struct thread *thread,
					    struct kwatch_heap *event, u64 pc, u64 sp)
{
	struct unwinding *u = claim_scratch(&thread->scratch);
	struct known_key key;
	struct space space;

	if (!u) {
		count_loss(thread->tgid, LOSS_STACK_SCRATCH_BUSY);
		return false;
	}
	space_of(thread, &space);
	begin_unwinding(u, ctx, pc, sp);
	key_of(&key, u, &space);
	event->stack = find_known(u, &key);
	if (event->stack && ((event->stack == thread->last_stack && key.space == thread->last_space) ||
			     was_sent(event->stack))) {
		release(u);
		thread->last_stack = event->stack;
		thread->last_space = key.space;
		return false;
	}
	u->hash = mix(mix(space.image, space.epoch), pc);
	u->event = *event;
	u->event.tgid = thread->tgid;
	read_window(u);
	unwind_programs.call(ctx, 0);
	event->stack = event->function + 1;
	release(u);
	count_loss(thread->tgid, LOSS_STACK_SCRATCH_BUSY);
	return false;
}
