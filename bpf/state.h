/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The maps, and the accessors that hide bcc's dialect from the rest.
 *
 * The loader passes as macros: RING_CPUS, HEAP, HEAP_COOKIE, UPROBE_LINKS, UPROBE_SESSIONS,
 * HEAP_STACKS, CALL_STACKS, WATCH, STACKS (for any of these), SUMMED_CALLS, SYSTEM_WIDE,
 * COMM_PATTERNS, FOLLOW, MIN_SIZE, MAX_SIZE (user options), PERF_TRACEPOINTS, MAX_SOCKETCALL,
 * IPC_CALLS (kwatch/syscalls/names.py), FIRST_* (the first function with each signature in
 * kwatch/wire/allocators.py), offsets from the kernel's BTF, named after the structures: TASK_*,
 * MM_*..., PT_REGS_SIZE, and TASK_PT_REGS, if the kernel has bpf_task_pt_regs().
 */
#ifndef KWATCH_STATE_H
#define KWATCH_STATE_H

BPF_HASH(targets, u32, struct target, 32768);
BPF_HASH(losses, struct loss_key, u64, 65536);
BPF_F_TABLE("array", int, u64, any_losses, 1, BPF_F_MMAPABLE); /* 0: `losses` is empty */
BPF_PERF_OUTPUT(control_ring);

static __always_inline u32 read_u32(void *base, u64 offset)
{
	u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), base + offset);
	return value;
}

static __always_inline u64 read_u64(void *base, u64 offset)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), base + offset);
	return value;
}

static __always_inline void count_losses(u32 tgid, u32 cause, u32 number)
{
	struct loss_key key = { .tgid = tgid, .cause = cause };
	u64 zero = 0, *count, *any;
	int first = 0;

	any = any_losses.lookup(&first);
	if (any)
		*(volatile u64 *)any = 1;
	count = losses.lookup_or_try_init(&key, &zero);
	if (!count) {
		/* No room for another process: count at least the cause. */
		key.tgid = 0;
		count = losses.lookup_or_try_init(&key, &zero);
	}
	if (count)
		__sync_fetch_and_add(count, number);
}

static __always_inline void count_loss(u32 tgid, u32 cause)
{
	count_losses(tgid, cause, 1);
}

/* The flags of a process of kwatch's own, which is never traced; 0 for all others. */
static __always_inline u32 own_flags(u32 tgid)
{
	struct target *target = targets.lookup(&tgid);

	return target && target->flags & TARGET_OWN ? target->flags : 0;
}

static __always_inline bool is_own(u32 tgid)
{
	return own_flags(tgid);
}

static __always_inline void head(struct kwatch_control *control, u8 type, u32 tgid)
{
	control->type = type;
	control->time_ns = bpf_ktime_get_ns();
	control->tgid = tgid;
}

static __always_inline void send_control(void *ctx, void *record, u64 size, u32 tgid)
{
	if (control_ring.perf_submit(ctx, record, size))
		count_loss(tgid, LOSS_CONTROL_RING_FULL);
}

static __always_inline struct target *find_target(u32 tgid)
{
	struct target *target = targets.lookup(&tgid);

	return target && !(target->flags & TARGET_OWN) ? target : NULL;
}

/* A target whose system calls are traced. */
static __always_inline struct target *find_traced(u32 tgid)
{
	struct target *target = find_target(tgid);

	return target && !(target->flags & TARGET_HEAP_ONLY) ? target : NULL;
}

/* The process that has the memory of this one, and so its heap. */
static __always_inline u32 owner_of_memory(u32 tgid)
{
	struct target *target = find_target(tgid);

	return target && target->owner ? target->owner : tgid;
}

static __always_inline u64 new_mm_id(u32 tgid)
{
	return (bpf_ktime_get_ns() << 16) ^ tgid;
}

static __always_inline int add_target(u32 tgid, u32 flags, u32 owner)
{
	struct target target = { .mm_id = new_mm_id(tgid), .flags = flags, .owner = owner };

	if (targets.update(&tgid, &target)) {
		count_loss(0, LOSS_TARGETS_MAP_FULL); /* nothing else reports this process */
		return -1;
	}
	return 0;
}

/* Threads of a process may race to add it: all get the mm_id of the first. */
static __always_inline struct target *add_running_target(u32 tgid)
{
	struct target target = { .mm_id = new_mm_id(tgid), .flags = TARGET_INHERIT }, *found;

	targets.insert(&tgid, &target);
	found = find_target(tgid);
	if (!found)
		count_loss(0, LOSS_TARGETS_MAP_FULL);
	return found;
}

/* The target entry of a running process, or NULL. System-wide, all processes but kwatch have one. */
static __always_inline struct target *current_target(u32 tgid)
{
	struct target *target = find_target(tgid);

	return target || !SYSTEM_WIDE || is_own(tgid) ? target : add_running_target(tgid);
}

#endif
