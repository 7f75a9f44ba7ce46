/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Forks, execs and exits: which processes are targets, and the cleanup of threads. */

BPF_ARRAY(patterns, struct pattern, MAX_PATTERNS);

static __always_inline bool comm_matches(u8 *comm, struct pattern *pattern)
{
	u32 state = 1;

#pragma unroll
	for (int i = 0; i < KWATCH_COMM_LEN; i++) {
		if (!comm[i])
			break;
		state = ((state & pattern->accepts[comm[i]]) << 1) | (state & pattern->loops);
	}
	return state & pattern->final;
}

static __always_inline bool current_comm_matches(void)
{
	u8 comm[KWATCH_COMM_LEN] = {};

	bpf_get_current_comm(comm, sizeof(comm));
#pragma clang loop unroll(disable)
	for (int i = 0; i < COMM_PATTERNS; i++) {
		int index = i;
		struct pattern *pattern = patterns.lookup(&index);

		if (pattern && comm_matches(comm, pattern))
			return true;
	}
	return false;
}

/* A child starts with its parent's mappings. */
static __always_inline u64 inherit_space(u32 parent, u32 child)
{
	struct target *target = find_target(child);
#ifdef STACKS
	struct target *origin = find_target(parent);
	struct space *space = spaces.lookup(&parent), copy;

	if (space && target && origin && space->mm_id == origin->mm_id && space->unmaps == origin->unmaps) {
		copy = *space;
		copy.mm_id = target->mm_id;
		copy.unmaps = 0;
		spaces.update(&child, &copy);
	}
#endif
	return target ? target->mm_id : 0;
}

/* The process whose heap the child uses; 0: the child has a heap of its own. */
static __always_inline u32 owner_of_heap(struct newtask_context *ctx, struct target *parent,
					 u32 parent_tgid)
{
#ifdef HEAP
	if (ctx->clone_flags & CLONE_VM)
		return parent->owner ? parent->owner : parent_tgid;
#endif
	return 0;
}

/* Makes the child a target if its parent's children are. Returns its kind; -1: nothing to report. */
static __always_inline int adopt(struct target *parent, u32 child, u32 owner)
{
	u32 flags = parent->flags & ~(TARGET_WAITING | TARGET_UNSEEN | TARGET_FORKED);

	if (flags & TARGET_INHERIT)
		return add_target(child, flags, owner) ? -1 : owner ? FORK_SHARES : FORK_TRACED;
#ifdef HEAP
	if (owner) {
		add_target(child, TARGET_HEAP_ONLY, owner);
		return -1;
	}
	if (!(parent->flags & TARGET_FORKED)) {
		parent->flags |= TARGET_FORKED;
		return FORK_UNTRACED;
	}
#endif
	return -1;
}

/* The thread with this stack has ended. `status`: as wait() returns it. */
static __always_inline void end_slot(u64 stack, u32 status)
{
	struct slot *slot = find_slot(stack);

	if (!slot)
		return;
	if (slot->is_target) {
#ifdef HEAP
		end_thread(&slot->thread);
#endif
		end_call(slot);
#ifdef RECORD
		record_end(slot, status);
#endif
	}
	free_slot(slot, stack);
}

/* A recording has the end of each thread, also of one without a slot: it has made no call yet. */
static __always_inline void end_current(void *task, struct target *target)
{
	u64 stack = own_stack(task);

#ifdef RECORD
	if (target && !current_slot(stack))
		count_no_room();
#endif
	end_slot(stack, read_u32(task, TASK_EXIT_CODE));
}

/* A new thread has a stack that no other has. If the end of the one before was missed, it is now. */
static __always_inline void end_slot_before(struct newtask_context *ctx)
{
#ifndef PERF_TRACEPOINTS
	u64 stack = read_u64((void *)ctx->task, TASK_STACK);

	end_slot(stack_of(stack + KERNEL_STACK - 1), 0);
#endif
}

int process_fork(struct newtask_context *ctx)
{
	void *child = new_process(ctx);
	u32 parent_tgid = bpf_get_current_pid_tgid() >> 32;
	u32 tgid = child ? read_u32(child, TASK_TGID) : parent_tgid;
	struct target *parent = find_target(parent_tgid);
	struct kwatch_fork event = {};
	int kind;

	end_slot_before(ctx);
	if (!child && !(ctx->clone_flags & CLONE_THREAD) && parent && parent->flags & TARGET_INHERIT)
		count_loss(parent_tgid, LOSS_CONTROL_RING_FULL); /* the child was not found */
	if (tgid != parent_tgid && own_flags(parent_tgid) & TARGET_INHERIT) {
		add_target(tgid, TARGET_OWN | TARGET_INHERIT, 0);
		return 0;
	}
	if (tgid == parent_tgid) {
		if (parent && !(parent->flags & TARGET_HEAP_ONLY))
			begin_thread(new_tid(ctx), tgid);
		return 0;
	}
	if (!parent)
		return 0;
#ifdef HEAP
	note_fork(parent->owner ? parent->owner : parent_tgid);
#endif
	kind = adopt(parent, tgid, owner_of_heap(ctx, parent, parent_tgid));
	if (kind < 0)
		return 0;
	if (kind != FORK_UNTRACED)
		begin_thread(tgid, tgid);
	head(&event.head, EVENT_FORK, parent_tgid);
	event.child = tgid;
	event.child_kind = kind;
	event.mm_id = inherit_space(parent_tgid, tgid);
	event.child_start_ns = read_u64(child, TASK_START_BOOTTIME);
	bpf_get_current_comm(event.comm, sizeof(event.comm));
	send_control(ctx, &event, sizeof(event), tgid);
	return 0;
}

/* Decides whether the process is a target with its new name. `slot`: of the thread, if it has one. */
static __always_inline bool retarget(u32 tgid, struct slot *slot)
{
	struct target *target = find_target(tgid);
	bool matches = !is_own(tgid) && current_comm_matches();

	if (target && target->flags & TARGET_HEAP_ONLY) { /* it has left the shared memory */
		targets.delete(&tgid);
		target = NULL;
	}
	if (!target) {
		if (matches && !add_target(tgid, TARGET_INHERIT | (FOLLOW ? 0 : TARGET_BY_COMM), 0))
			begin_thread(tgid, tgid);
		return matches;
	}
	if (target->flags & TARGET_BY_COMM && !matches) {
		if (slot)
			finish_call(slot);
		targets.delete(&tgid);
		return false;
	}
	target->flags &= ~(TARGET_WAITING | TARGET_UNSEEN);
	target->owner = 0;
	target->mm_id = new_mm_id(tgid);
	target->unmaps = 0;
	return true;
}

/* A thread that makes an exec takes over the leader's tid, and leaves its interrupted call. */
static __always_inline void lead_process(struct slot *slot, u32 old_tid, u32 tgid)
{
	drop_interrupted(&slot->call, old_tid);
	slot->tid = tgid;
	slot->call.tid = tgid;
#ifdef HEAP
	forget_calls(&slot->thread);
#endif
}

int process_exec(struct exec_context *ctx)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32, old_tid = ctx->old_tid;
	void *task = (void *)bpf_get_current_task();
	struct slot *slot = find_slot(own_stack(task));
	bool was_target = find_traced(tgid), matched;
	struct kwatch_exec event = {};
	struct target *target;

#ifdef STACKS
	spaces.delete(&tgid);
#endif
	if (old_tid != tgid)
		noted_threads.delete(&old_tid);
	if (slot)
		lead_process(slot, old_tid, tgid);
	matched = retarget(tgid, slot);
	if (slot)
		decide(slot, tgid, slot->generation);
	if (!was_target && !matched && !COMM_PATTERNS)
		return 0;
	head(&event.head, EVENT_EXEC, tgid);
	event.matched = matched;
	target = find_target(tgid);
	event.mm_id = target ? target->mm_id : 0;
	event.old_tid = old_tid;
	event.start_ns = read_u64(task, TASK_START_BOOTTIME);
	bpf_get_current_comm(event.comm, sizeof(event.comm));
	send_control(ctx, &event, sizeof(event), tgid);
	return 0;
}

/*
 * The main thread ends, and others go on. A perf event compares the memory of the thread that it was
 * opened for, so without it the kernel takes the probes out (uprobe_perf_filter()).
 */
static __always_inline void note_headless(void *signal, u32 tid, u32 tgid)
{
#if defined(HEAP) && !defined(UPROBE_LINKS)
	if (!SYSTEM_WIDE && tid == tgid && !all_threads_end(signal) && find_target(tgid))
		count_loss(tgid, LOSS_MAIN_THREAD_ENDED);
#endif
}

int process_exit(void *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 tid = id, tgid = id >> 32;
	void *task = (void *)bpf_get_current_task(), *leader;
	void *signal = (void *)read_u64(task, TASK_SIGNAL);
	struct target *target = find_target(tgid);
	struct kwatch_exit event = {};
	bool is_traced, is_last;

	end_current(task, target);
	if (target) {
		noted_threads.delete(&tid);
		__sync_fetch_and_add(&target->ended_threads, 1);
		event.ended_threads = target->ended_threads;
	}
	/* do_exit() has already subtracted this thread from signal->live. */
	is_last = !read_u32(signal, SIGNAL_LIVE);
	if (target && (is_last || all_threads_end(signal)))
		send_last_registers(ctx, task, tid, tgid);
	if (!is_last) {
		note_headless(signal, tid, tgid);
		return 0;
	}
	if (is_own(tgid))
		targets.delete(&tgid);
	is_traced = find_traced(tgid);
	if (targets.delete(&tgid) || !is_traced)
		return 0; /* two threads may both get here as the last one */
#ifdef STACKS
	spaces.delete(&tgid);
#endif
	head(&event.head, EVENT_EXIT, tgid);
	event.status = read_u32(task, TASK_EXIT_CODE);
	leader = (void *)read_u64(task, TASK_GROUP_LEADER);
	event.start_ns = read_u64(leader, TASK_START_BOOTTIME);
	bpf_probe_read_kernel(event.comm, sizeof(event.comm), leader + TASK_COMM);
	send_control(ctx, &event, sizeof(event), tgid);
	return 0;
}
