/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The data rings where mapped_rings.h is not possible: one BPF ring buffer for each CPU.
 *
 * The reader sleeps until a ring holds WAKEUP_FILL bytes or is half full. To ask how full a ring is
 * costs helper calls, so a writer asks only at every WAKEUP_CHECK-th record.
 */
#ifndef KWATCH_BPF_RINGS_H
#define KWATCH_BPF_RINGS_H

#define WAKEUP_CHECK 16 /* a fifth of the smallest ring */
#define WAKEUP_FILL (1 << 20) /* a power of two */
#define WAKEUP_WINDOW (1 << 14) /* bytes after each WAKEUP_FILL in which writers wake the reader */

BPF_RINGBUF_OUTPUT(data_ring, 1); /* a template for the inner maps */
BPF_ARRAY_OF_MAPS(syscall_rings, "data_ring", RING_CPUS);
#ifdef HEAP
BPF_ARRAY_OF_MAPS(heap_rings, "data_ring", RING_CPUS);
#endif

#ifdef WATCH
BPF_ARRAY_OF_MAPS(hit_rings, "data_ring", RING_CPUS);
#endif

/*
 * Where a writer's count begins. It is random: many writers with few records each may never reach
 * WAKEUP_CHECK from 0, but must wake the reader as often as one writer with many records.
 */
static __always_inline u32 first_count(void)
{
	return bpf_get_prandom_u32();
}

/* A wake-up takes a microsecond or more: while the reader is behind, only some checks are for one. */
static __always_inline bool needs_reader(void *ring)
{
	u64 fill = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA);

	if (fill >= WAKEUP_FILL)
		return (fill & (WAKEUP_FILL - 1)) < WAKEUP_WINDOW;
	return 2 * fill >= bpf_ringbuf_query(ring, BPF_RB_RING_SIZE);
}

/* False if the ring is full. `count`: the records that the writer has written. */
static __always_inline bool write_record(void *ring, void *record, u64 size, u32 *count)
{
	u64 flags = BPF_RB_NO_WAKEUP;

	if (!ring)
		return false; /* the CPU came online after the rings were created */
	*count += 1;
	if (!(*count % WAKEUP_CHECK) && needs_reader(ring))
		flags = BPF_RB_FORCE_WAKEUP;
	return !bpf_ringbuf_output(ring, record, size, flags);
}

static __always_inline bool write_syscall(SYSCALL_RECORD *record, u32 *count)
{
	int cpu = bpf_get_smp_processor_id();

	return write_record(syscall_rings.lookup(&cpu), record, sizeof(*record), count);
}

#ifdef HEAP
static __always_inline bool write_heap(struct kwatch_heap *record, u32 *count)
{
	int cpu = bpf_get_smp_processor_id();

	return write_record(heap_rings.lookup(&cpu), record, sizeof(*record), count);
}
#endif

#ifdef WATCH
static __always_inline bool write_hit(struct kwatch_hit *record, u32 *count)
{
	int cpu = bpf_get_smp_processor_id();

	return write_record(hit_rings.lookup(&cpu), record, sizeof(*record), count);
}
#endif

#endif
