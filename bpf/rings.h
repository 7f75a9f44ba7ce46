/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The data rings: for each CPU a BPF ring buffer of its own, so that no two CPUs contend.
 *
 * A record costs about 80 ns here and 290 ns in a perf ring. The reader sleeps until half of
 * a ring is full; asking how full it is costs helper calls, so a writer asks at every
 * WAKEUP_CHECK-th of its records only.
 */
#ifndef KWATCH_RINGS_H
#define KWATCH_RINGS_H

#define WAKEUP_CHECK 16 /* a fifth of the smallest ring */

BPF_RINGBUF_OUTPUT(data_ring, 1); /* a template for the inner maps */
BPF_ARRAY_OF_MAPS(syscall_rings, "data_ring", RING_CPUS);
#ifdef HEAP
BPF_ARRAY_OF_MAPS(heap_rings, "data_ring", RING_CPUS);
#endif

/*
 * Where a writer's count begins: at random, so that many writers of few records, none of which
 * comes to WAKEUP_CHECK, wake the reader as often as one writer of many.
 */
static __always_inline u32 first_count(void)
{
	return bpf_get_prandom_u32();
}

static __always_inline bool is_half_full(void *ring)
{
	return 2 * bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) >= bpf_ringbuf_query(ring, BPF_RB_RING_SIZE);
}

/* Whether the record found room. `count` is the writer's: of the records that it has written. */
static __always_inline bool write_record(void *ring, void *record, u64 size, u32 *count)
{
	u64 flags = BPF_RB_NO_WAKEUP;

	if (!ring)
		return false; /* a CPU that has come since the rings were made */
	*count += 1;
	if (!(*count % WAKEUP_CHECK) && is_half_full(ring))
		flags = BPF_RB_FORCE_WAKEUP;
	return !bpf_ringbuf_output(ring, record, size, flags);
}

#endif
