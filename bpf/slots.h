/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * One slot for each thread: whether its process is a target, its system call in progress, and its
 * allocator call in progress.
 *
 * A thread's slot is found by its kernel stack, where the kernel saves the registers of the program: a
 * tracepoint has their address as an argument, a uprobe as its context. No helper has to be called,
 * which costs 20 to 50 ns. Threads that are not traced have slots too, which say that.
 *
 * A stack may have one of two slots in an array. If others have them, its slot is further back in the
 * array, and a hash map has its index. (A slot in a map of its own would make the verifier check the
 * rest of each program twice.) Where the kernel lacks the instruction that claims a slot, all are in a
 * hash map: SLOT_TABLE is not defined there.
 */
#ifndef KWATCH_SLOTS_H
#define KWATCH_SLOTS_H

#define STACK_SHIFT 14 /* the smallest kernel stacks are 16 KB */
#define GOLDEN_RATIO 0x9e3779b97f4a7c15ULL
#define SERIAL_SHIFT 28 /* in an mm_id, to the time of its creation in units of 4 us: see new_mm_id */

#ifdef SLOT_TABLE
BPF_F_TABLE("array", int, struct slot, slots, SLOTS + SPILLED_SLOTS, BPF_F_MMAPABLE);
BPF_HASH(spilled_slots, u64, int, SPILLED_SLOTS); /* their indexes */
#else
BPF_HASH(spilled_slots, u64, struct slot, 65536);
BPF_ARRAY(empty_slot, struct slot, 1); /* all zero; never changed */
#endif
BPF_F_TABLE("array", int, struct slot_state, slot_state, 1, BPF_F_MMAPABLE);
BPF_HASH(noted_threads, u32, struct noted_thread, 65536);
BPF_HASH(interrupted_calls, u32, struct interrupted_call, 16384);

static __always_inline struct slot_state *state_of_slots(void)
{
	int first = 0;

	return slot_state.lookup(&first);
}

/* What identifies a thread, from the address of its saved registers. */
static __always_inline u64 stack_of(u64 registers)
{
	return registers >> STACK_SHIFT;
}

/*
 * The same for what the verifier knows as a pointer, such as a uprobe's context: it allows no shift of
 * that, but of the difference between two pointers, and of a pointer that comes from a map.
 */
static __always_inline u64 stack_of_pointer(void *registers)
{
	struct slot_state *state = state_of_slots();
	volatile u64 *address;

	if (!state)
		return 0;
	address = &state->address;
	if (!*address)
		*address = (u64)state;
	return ((u64)registers - (u64)state + *address) >> STACK_SHIFT;
}

#ifdef SLOT_TABLE

static __always_inline void count_spilled(s64 change)
{
	struct slot_state *state = state_of_slots();

	if (state)
		__sync_fetch_and_add(&state->spilled, change);
}

static __always_inline int first_of_pair(u64 stack)
{
	return (stack * GOLDEN_RATIO) >> (64 - SLOT_BITS) << 1;
}

/* The index of the slot of a stack; -1 if it has none. */
static __always_inline int spilled_index(u64 stack)
{
	struct slot_state *state = state_of_slots();
	int *index;

	if (!state || !*(volatile u64 *)&state->spilled)
		return -1;
	index = spilled_slots.lookup(&stack);
	return index ? *index : -1;
}

static __always_inline struct slot *find_slot(u64 stack)
{
	int index = first_of_pair(stack);
	struct slot *slot = slots.lookup(&index);

	if (slot && slot->stack == stack)
		return slot;
	index += 1;
	slot = slots.lookup(&index);
	if (slot && slot->stack == stack)
		return slot;
	index = spilled_index(stack);
	slot = slots.lookup(&index);
	return slot && slot->stack == stack ? slot : NULL;
}

static __always_inline bool claim_entry(struct slot *slot, u64 stack)
{
	return slot && !slot->stack && !__sync_val_compare_and_swap(&slot->stack, 0, stack);
}

#define SPILL_TRIES 16 /* of all the slots there, few are in use */

static __always_inline struct slot *spill_slot(u64 stack)
{
	int index, first = stack * 0xd6e8feb86659fd93ULL >> 40;
	struct slot *slot;

#pragma clang loop unroll(disable)
	for (int i = 0; i < SPILL_TRIES; i++) {
		index = SLOTS + ((first + i) & (SPILLED_SLOTS - 1));
		slot = slots.lookup(&index);
		if (!claim_entry(slot, stack))
			continue;
		if (spilled_slots.update(&stack, &index)) {
			__sync_val_compare_and_swap(&slot->stack, stack, 0);
			return NULL;
		}
		slot->is_spilled = 1;
		count_spilled(1);
		return slot;
	}
	return NULL;
}

/* A slot whose other members are zero; NULL without room. */
static __always_inline struct slot *claim_slot(u64 stack)
{
	int index = first_of_pair(stack);
	struct slot *slot = slots.lookup(&index);

	if (claim_entry(slot, stack))
		return slot;
	index += 1;
	slot = slots.lookup(&index);
	return claim_entry(slot, stack) ? slot : spill_slot(stack);
}

/* All else is zero before another thread can claim it. */
static __always_inline void free_slot(struct slot *slot, u64 stack)
{
	if (slot->is_spilled && !spilled_slots.delete(&stack))
		count_spilled(-1);
	__builtin_memset((void *)slot + sizeof(u64), 0, sizeof(*slot) - sizeof(u64));
	__sync_val_compare_and_swap(&slot->stack, stack, 0);
}

#else

static __always_inline struct slot *find_slot(u64 stack)
{
	return spilled_slots.lookup(&stack);
}

static __always_inline struct slot *claim_slot(u64 stack)
{
	int first = 0;
	struct slot *empty = empty_slot.lookup(&first), *slot;

	if (!empty || spilled_slots.update(&stack, empty))
		return NULL;
	slot = spilled_slots.lookup(&stack);
	if (slot)
		slot->stack = stack;
	return slot;
}

static __always_inline void free_slot(struct slot *slot, u64 stack)
{
	spilled_slots.delete(&stack);
}

#endif

#ifdef HEAP
/* What is kept of the thread's allocator calls is of another address space, or not wanted. */
static __always_inline void forget_calls(struct thread *thread)
{
	thread->mm_id = 0;
	thread->sp = 0;
	thread->released.pointer = 0;
}
#endif

#ifdef RECORD
/* The current thread's. Only its own calls change the user; a move to another cgroup is counted. */
static __always_inline void take_user(struct thread_user *user)
{
	user->uid = bpf_get_current_uid_gid();
	user->cgroup_id = bpf_get_current_cgroup_id();
}
#endif

/* Decides again whether the current thread's process is a target. */
static __always_inline void decide(struct slot *slot, u32 tgid, u64 generation)
{
	struct target *target = current_target(tgid);

	slot->generation = generation;
	slot->is_target = !!target;
	if (!target) {
		slot->call.state = CALL_UNSEEN;
		if (slot->call.interrupted)
			interrupted_calls.delete(&slot->tid);
		slot->call.interrupted = 0;
	}
#ifdef HEAP
	if (!target || (!target->owner && target->mm_id != slot->thread.mm_id))
		forget_calls(&slot->thread);
#endif
#ifdef RECORD
	if (target)
		take_user(&slot->user);
#endif
	slot->flags = target ? target->flags : 0;
	slot->owner = target ? target->owner : 0;
	slot->serial = target ? target->mm_id >> SERIAL_SHIFT : 0;
}

/*
 * The generation, read before anything that follows: Python changes the targets first. Where the
 * kernel lacks the instruction, the helpers that are called between are as good on x86-64.
 */
static __always_inline u64 generation_of(struct slot_state *state)
{
	u64 *generation = (u64 *)&state->generation;

#ifdef SLOT_TABLE
	return __sync_val_compare_and_swap(generation, 0, 0);
#else
	return *(volatile u64 *)generation;
#endif
}

/* The current thread's slot was not found, or the targets have changed. */
static __always_inline struct slot *renew_slot(struct slot *slot, u64 stack,
					       struct slot_state *state)
{
	u64 id = bpf_get_current_pid_tgid(), generation = generation_of(state);

	if (!slot) {
		slot = claim_slot(stack);
		if (!slot)
			return NULL;
		slot->task = bpf_get_current_task();
		slot->call.state = CALL_UNSEEN;
		slot->call.records = first_count();
#ifdef HEAP
		slot->thread.records = first_count();
#endif
	}
	slot->tid = id;
	slot->tgid = id >> 32;
	slot->call.tid = id;
	slot->call.tgid = id >> 32;
	decide(slot, id >> 32, generation);
	return slot;
}

/* The slot of the current thread, which need not be traced; NULL if there is no room for one. */
static __always_inline struct slot *current_slot(u64 stack)
{
	struct slot *slot = find_slot(stack);
	struct slot_state *state = state_of_slots();

	if (!state)
		return NULL;
#ifdef PERF_TRACEPOINTS
	if (slot && slot->task != bpf_get_current_task()) { /* its thread's end was missed */
		free_slot(slot, stack);
		slot = NULL;
	}
#endif
	if (!slot || slot->generation != *(u64 *)&state->generation)
		slot = renew_slot(slot, stack, state);
	return slot;
}

/* An event of a thread without a slot, if it is traced. */
static __always_inline void count_no_room(void)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;

	if (current_target(tgid))
		count_loss(tgid, LOSS_SLOTS_FULL);
}

#endif
