/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The areas: for each CPU, memory that the reader maps, where captures put what they read.
 *
 * `head` counts the bytes that were reserved, and `tail` those that the reader has released. A capture
 * reserves as much as any may need, and gives back the rest. It begins at its place modulo AREA_SIZE and
 * is contiguous: behind AREA_SIZE there is room for one more.
 *
 * The reader takes records in the order in which captures ended, and releases their bytes together.
 * That is safe since programs on tracepoints are not preempted (PERF_TRACEPOINTS says how): a capture
 * ends before the next one on its CPU begins.
 */
#ifndef KWATCH_CAPTURE_AREA_H
#define KWATCH_CAPTURE_AREA_H

#define MAX_PIECE 0xfffe /* bytes; see KWATCH_NO_PIECE */
#define MAX_CAPTURED (MAX_CAPTURE / 2) /* bytes, after which no piece begins */
#define AREA_WAKES 4 /* times that the reader is woken for each AREA_SIZE bytes */

struct capture_bytes {
	u8 bytes[AREA_SIZE + MAX_CAPTURE];
};

BPF_F_TABLE("array", int, struct capture_bytes, capture_area, 1, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
BPF_ARRAY_OF_MAPS(capture_areas, "capture_area", RING_CPUS);
BPF_F_TABLE("array", int, struct ring_position, area_positions, RING_CPUS, BPF_F_MMAPABLE);

/* Clang bounds a copy of a number, and the verifier then does not know the bound. */
#define KEEP_BOUND(number) asm volatile("" : "+r"(number))

static __always_inline u8 *area_of(int cpu)
{
	void *area = capture_areas.lookup(&cpu);
	int first = 0;

	return area ? bpf_map_lookup_elem(area, &first) : NULL;
}

/* `shared`: the program may be preempted. */
static __always_inline bool reserve_area(struct ring_position *at, u64 *place, bool shared)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < RESERVE_TRIES; i++) {
		u64 head = *(volatile u64 *)&at->head;

		if (head + MAX_CAPTURE - at->tail > AREA_SIZE)
			return false;
		*place = head;
		if (!shared) {
			at->head = head + MAX_CAPTURE;
			return true;
		}
		if (__sync_val_compare_and_swap(&at->head, head, head + MAX_CAPTURE) == head)
			return true;
	}
	return false;
}

/* Gives back all of a reservation but `used` bytes. False if another has followed. */
static __always_inline bool shrink_area(struct ring_position *at, u64 place, u64 reserved, u64 used,
					bool shared)
{
	u64 end = place + reserved;

	if (shared)
		return __sync_val_compare_and_swap(&at->head, end, place + used) == end;
	if (*(volatile u64 *)&at->head != end)
		return false;
	at->head = place + used;
	return true;
}

static __always_inline bool is_time_to_wake(u64 place, u64 used)
{
	return (place ^ (place + used)) & ~(AREA_SIZE / AREA_WAKES - 1);
}

/* Where the next piece begins; NULL if the capture has become too large. */
static __always_inline u8 *next_piece(struct capture *capture, u8 *area)
{
	u64 start = capture->place, used = capture->used;

	start &= AREA_SIZE - 1;
	KEEP_BOUND(start);
	if (used > MAX_CAPTURED)
		return NULL;
	KEEP_BOUND(used);
	return area + start + used;
}

#endif
