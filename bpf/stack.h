/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * User stacks by frame pointer, identified by a hash of our own.
 *
 * An event carries only the 64-bit id; the frames travel once, on the control ring. The walk is
 * done twice: first to hash, then, for a stack not seen before, to send. So nothing is stored
 * between, and preemption between two uprobes on one CPU cannot mix their frames.
 */
#ifndef KWATCH_STACK_H
#define KWATCH_STACK_H

#define MAX_CHUNKS (KWATCH_MAX_FRAMES / KWATCH_STACK_CHUNK)
#define MAX_STACK_BYTES (64ULL << 20)

BPF_TABLE("lru_hash", u64, u8, stacks_sent, 65536);

struct frame_record {
	u64 next;
	u64 return_address;
};

struct walk {
	u64 low; /* frames lie above this address ... */
	u64 high; /* ... and below this one */
	u64 frame_pointer;
};

static __always_inline void begin_walk(struct walk *walk, struct pt_regs *ctx)
{
	walk->low = STACK_POINTER(ctx);
	walk->high = walk->low + MAX_STACK_BYTES;
	walk->frame_pointer = FRAME_POINTER(ctx);
}

/* The next return address, or 0 at the end of the chain. */
static __always_inline u64 next_frame(struct walk *walk)
{
	struct frame_record record;
	u64 at = walk->frame_pointer;

	if (at < walk->low || at >= walk->high || at & 7)
		return 0;
	if (bpf_probe_read_user(&record, sizeof(record), (void *)at))
		return 0;
	walk->low = at + 1;
	walk->frame_pointer = record.next;
	return record.return_address;
}

static __always_inline u64 mix(u64 hash, u64 value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
	return hash ^ (hash >> 29);
}

/* The id of the stack whose innermost return address is `caller`. */
static __always_inline u64 hash_stack(struct pt_regs *ctx, u64 caller, u64 seed)
{
	u64 hash = mix(seed, caller), frame;
	struct walk walk;

	begin_walk(&walk, ctx);
#pragma clang loop unroll(disable)
	for (int i = 1; i < KWATCH_MAX_FRAMES; i++) {
		frame = next_frame(&walk);
		if (!frame)
			break;
		hash = mix(hash, frame);
	}
	return hash ? hash : 1;
}

/* Fills one chunk; a chunk that is not full ends the stack. */
static __always_inline void fill_chunk(struct kwatch_stack *record, struct walk *walk, u64 first)
{
	u64 frame = first;

	record->count = 0;
#pragma unroll
	for (int i = 0; i < KWATCH_STACK_CHUNK; i++) {
		if (i || !frame)
			frame = next_frame(walk);
		if (!frame)
			break;
		record->frames[i] = frame;
		record->count = i + 1;
	}
}

static __always_inline int send_stack(struct pt_regs *ctx, u64 caller, u32 tgid, u64 stack)
{
	struct kwatch_stack record = {};
	struct walk walk;

	record.head.type = EVENT_STACK;
	record.head.time_ns = bpf_ktime_get_ns();
	record.head.tgid = tgid;
	record.stack = stack;
	begin_walk(&walk, ctx);
	fill_chunk(&record, &walk, caller);
#pragma clang loop unroll(disable)
	for (int chunk = 0; chunk < MAX_CHUNKS; chunk++) {
		if (control_ring.perf_submit(ctx, &record, sizeof(record)))
			return -1;
		if (record.count < KWATCH_STACK_CHUNK)
			return 0;
		record.first += KWATCH_STACK_CHUNK;
		fill_chunk(&record, &walk, 0);
	}
	return 0;
}

/* Sends the frames of a stack unless they have been; whether they are there now. */
static __always_inline bool announce_stack(struct pt_regs *ctx, u64 caller, u32 tgid, u64 stack)
{
	u8 sent = 1;

	if (stacks_sent.lookup(&stack))
		return true;
	if (send_stack(ctx, caller, tgid, stack)) {
		count_loss(tgid, LOSS_STACK_RING_FULL);
		return false;
	}
	stacks_sent.update(&stack, &sent);
	return true;
}

#endif
