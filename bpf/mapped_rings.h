/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The data rings: for each CPU an array that the reader maps, so that CPUs do not contend and a record
 * costs no call of a helper (a BPF ring buffer's takes 50 to 110 ns, this one 3 to 17).
 *
 * `head` counts the records that were reserved, and `tail` those that the reader has released. The ring
 * is full if they are a whole ring apart. A program can be preempted while it writes, so the reader
 * knows by `lap` that a record is whole: how often writers have been round the ring. It shares a word
 * with `tgid`, which is written last. A writer wakes the reader each time that the records in the ring
 * reach a multiple of `wake`; the rest of the ring is for the time until the reader has a CPU.
 */
#ifndef KWATCH_MAPPED_RINGS_H
#define KWATCH_MAPPED_RINGS_H

BPF_F_TABLE("array", int, SYSCALL_RECORD, syscall_ring, 1, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
BPF_ARRAY_OF_MAPS(syscall_rings, "syscall_ring", RING_CPUS);
BPF_F_TABLE("array", int, struct ring_position, syscall_positions, RING_CPUS, BPF_F_MMAPABLE);
#ifdef HEAP
BPF_F_TABLE("array", int, struct kwatch_heap, heap_ring, 1, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
BPF_ARRAY_OF_MAPS(heap_rings, "heap_ring", RING_CPUS);
BPF_F_TABLE("array", int, struct ring_position, heap_positions, RING_CPUS, BPF_F_MMAPABLE);
#endif
#ifdef WATCH
BPF_F_TABLE("array", int, struct kwatch_hit, hit_ring, 1, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
BPF_ARRAY_OF_MAPS(hit_rings, "hit_ring", RING_CPUS);
BPF_F_TABLE("array", int, struct ring_position, hit_positions, RING_CPUS, BPF_F_MMAPABLE);
#endif
BPF_RINGBUF_OUTPUT(doorbell, 1); /* what it holds does not matter */

static __always_inline u32 first_count(void)
{
	return 0;
}

static __always_inline void ring_doorbell(void)
{
	u64 one = 1;

	doorbell.ringbuf_output(&one, sizeof(one), BPF_RB_FORCE_WAKEUP);
}

static __always_inline void wake_reader(struct ring_position *at, u64 head)
{
	if (!((head - at->tail) & (at->wake - 1)))
		ring_doorbell();
}

/* Writes the last word of a record, after the others. */
static __always_inline void publish(u64 *where, u64 value)
{
#ifdef __x86_64__
	asm volatile("" ::: "memory"); /* the processor keeps the order of stores */
	*(volatile u64 *)where = value;
#else
	__sync_val_compare_and_swap(where, *where, value);
#endif
}

#define RESERVE_TRIES 64 /* each failed one means that another thread has reserved a record */

/* A record of this CPU's ring, which the thread may leave meanwhile. False if the ring is full. */
static __always_inline bool reserve(struct ring_position *at, u64 *reserved)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < RESERVE_TRIES; i++) {
		u64 head = *(volatile u64 *)&at->head;

		if (head - at->tail > at->mask)
			return false;
		if (__sync_val_compare_and_swap(&at->head, head, head + 1) == head) {
			*reserved = head;
			return true;
		}
	}
	return false;
}

/* A reserved record; NULL if the ring is full. Without a ring, the CPU came online after the others. */
static __always_inline void *open_record(void *ring, struct ring_position *at, u64 *head)
{
	int index;

	if (!at || !ring || !reserve(at, head))
		return NULL;
	index = *head & at->mask;
	return bpf_map_lookup_elem(ring, &index);
}

/* `last`: the word with `tgid` and `lap`. All others have been written. */
static __always_inline void close_record(struct ring_position *at, u64 head, u64 *last, u32 tgid)
{
	publish(last, tgid | ((head >> at->shift) + 1) << 32);
	wake_reader(at, head + 1);
}

/* `last`: the index of the word with `lap`. */
static __always_inline bool write_words(void *ring, struct ring_position *at, u64 *from, int words,
					int last)
{
	u64 head = 0, *place = open_record(ring, at, &head);

	if (!place)
		return false;
#pragma unroll
	for (int i = 0; i < words; i++)
		if (i != last)
			place[i] = from[i];
	close_record(at, head, &place[last], from[last]);
	return true;
}

#define LAST_WORD(structure) (__builtin_offsetof(structure, tgid) / sizeof(u64))

#ifndef RECORD
/* False if the ring is full. The count of records is only for bpf_rings.h. */
static __always_inline bool write_syscall(SYSCALL_RECORD *record, u32 *count)
{
	int cpu = bpf_get_smp_processor_id();

	return write_words(syscall_rings.lookup(&cpu), syscall_positions.lookup(&cpu), (u64 *)record,
			   sizeof(*record) / sizeof(u64), LAST_WORD(struct kwatch_syscall));
}
#endif

#ifdef HEAP
static __always_inline bool write_heap(struct kwatch_heap *record, u32 *count)
{
	int cpu = bpf_get_smp_processor_id();

	return write_words(heap_rings.lookup(&cpu), heap_positions.lookup(&cpu), (u64 *)record,
			   sizeof(*record) / sizeof(u64), LAST_WORD(struct kwatch_heap));
}
#endif

#ifdef WATCH
static __always_inline bool write_hit(struct kwatch_hit *record, u32 *count)
{
	int cpu = bpf_get_smp_processor_id();

	return write_words(hit_rings.lookup(&cpu), hit_positions.lookup(&cpu), (u64 *)record,
			   sizeof(*record) / sizeof(u64), LAST_WORD(struct kwatch_hit));
}
#endif
#endif
