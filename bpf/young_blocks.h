/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Young blocks: an allocation stays in a table in the kernel, and the free of a block that is still
 * there takes it out. Neither has an event; only the sums of such pairs are kept. The reader empties
 * the table before each batch and applies what it finds in order of time, so no account lacks a block.
 *
 * One table serves all threads, because any thread may free a block. Where there is no room, an
 * allocation is sent as an event of its own. So is a free that finds nothing: it may be of a block that
 * the reader has taken out, which is in the same batch or in an earlier one.
 *
 * A free that must have an event leaves its block in the table with a key that no free looks for.
 *
 * What a block leaves behind when it ends is its address: if the reader still has an earlier block
 * there, whose free was not seen, it must learn that the address was used again.
 */
#ifndef KWATCH_YOUNG_BLOCKS_H
#define KWATCH_YOUNG_BLOCKS_H

#include "young_table.h"

BPF_ARRAY(forks, u64, YOUNG_FORKS); /* by the lower bits of the process's id */

/*
 * How often the process has forked, or others with the same lower bits. A block from before a fork is
 * also in the child's memory: its free needs an event.
 */
static __always_inline u64 forks_of(u32 tgid)
{
	u32 index = tgid & (YOUNG_FORKS - 1);
	u64 *count = forks.lookup((int *)&index);

	return count ? *(volatile u64 *)count : 0;
}

/* The process forks: call this before the time of the fork is read. */
static __always_inline void note_fork(u32 tgid)
{
	u32 index = tgid & (YOUNG_FORKS - 1);
	u64 *count = forks.lookup((int *)&index);

	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline u64 key_of_block(struct thread *thread, u64 address)
{
	return address ^ thread->mm_id * GOLDEN_RATIO;
}

/* Sums are kept for each CPU: a program seldom finds those that another one is working on. */
static __always_inline u64 key_of_sums(struct thread *thread, struct kwatch_heap *sums)
{
	u64 id = thread->mm_id * GOLDEN_RATIO ^ sums->stack;

	if (sums->type == EVENT_RELEASES)
		id = id * GOLDEN_RATIO + sums->address;
	return (id + bpf_get_smp_processor_id()) * 0xd6e8feb86659fd93ULL;
}

/* The key of a block that is live for the reader only: no free looks for it. */
static __always_inline u64 orphaned(u64 key)
{
	return ~key * GOLDEN_RATIO | YOUNG_KEYS;
}

/* The key of a block that has ended. */
static __always_inline u64 ended(u64 key)
{
	return key * GOLDEN_RATIO ^ 0xd6e8feb86659fd93ULL;
}

/* The entry of a block is as it was, but nothing finds it any more. */
static __always_inline bool orphan(struct young_places *places, u64 key)
{
	struct young_block *entry = entry_with(places, key);

	return entry && change_key(entry, key, orphaned(key));
}

/* An entry for a block, which is busy now: the one of the last block at its address, or an empty one. */
static __always_inline struct young_block *claim_for(struct young_places *places, u64 key)
{
	struct young_block *entry = entry_with(places, ended(key));

	if (entry && change_key(entry, ended(key), YOUNG_BUSY))
		return entry;
	return claim_empty(places);
}

/*
 * Keeps an allocation; false if it needs an event, also because the thread owes one. If an earlier
 * block at the same address is still there, its free was not seen, and the reader must get both.
 */
static __always_inline bool keep_young(struct thread *thread, struct kwatch_heap *event, u64 forks)
{
	u64 key = key_of_block(thread, event->address);
	struct young_places places;
	struct young_block *entry;

	if (!places_of_block(&places, key))
		return false;
	if (orphan(&places, key) || thread->owes_event)
		return false;
	entry = claim_for(&places, key);
	if (!entry)
		return false;
	entry->forks = forks;
	entry->event = *event;
	keep_entry(entry, key, places.index);
	return true;
}

/* `one`: the sums of one block. */
static __always_inline void add_sums(struct kwatch_heap *sums, struct kwatch_heap *one)
{
	sums->tid += 1;
	sums->size += one->size;
	if (sums->type == EVENT_PAIRS && sums->address < one->address)
		sums->address = one->address;
	if (sums->time_ns > one->time_ns)
		sums->time_ns = one->time_ns;
}

/* Adds the sums of one block to those that the table has; false without room. */
static __always_inline bool count_block(struct thread *thread, struct kwatch_heap *one)
{
	u64 key = key_of_sums(thread, one);
	struct young_places places;
	struct young_block *entry;

	if (!places_of_sums(&places, key))
		return false;
	entry = entry_with(&places, key);
	if (entry && entry->event.tid != ~0U && change_key(entry, key, YOUNG_BUSY)) {
		add_sums(&entry->event, one);
	} else {
		entry = claim_empty(&places);
		if (!entry)
			return false;
		entry->event = *one;
	}
	keep_entry(entry, key, places.index);
	return true;
}

/* Counts which stack has released a block of which stack; true if it has counted, or need not. */
static __always_inline bool count_release(struct thread *thread, struct kwatch_heap *block, u64 stack)
{
	struct kwatch_heap one = *block;

	if (!stack)
		return true;
	one.type = EVENT_RELEASES;
	one.function = 0;
	one.tid = 1;
	one.address = stack;
	one.size = bpf_ktime_get_ns() - block->time_ns;
	return count_block(thread, &one);
}

/* Counts a block that has ended. Without room, the pair is an event of its own. */
static __always_inline void count_pair(struct thread *thread, struct kwatch_heap *block)
{
	struct young_state *state = state_of_young();
	struct kwatch_heap one = *block;

	one.type = EVENT_PAIRS;
	one.function = 0;
	one.tid = 1;
	one.address = block->size;
	if (!state || !state->by_stack)
		one.stack = 0;
	if (!count_block(thread, &one) && !write_heap(&one, &thread->records))
		count_losses(thread->tgid, LOSS_HEAP_RING_FULL, 2);
}

/* Of a block that has ended, only the address and the time stay. */
static __always_inline void leave_address(struct kwatch_heap *event)
{
	event->type = EVENT_REUSED;
	event->tid = 0;
	event->size = 0;
	event->stack = 0;
}

/*
 * Ends a block that the table has; false if the free needs an event: the table does not have it, a
 * child has a copy of it, or the thread owes an event. `stack`: of the free, or 0.
 */
static __always_inline bool end_young(struct thread *thread, u64 address, u64 stack)
{
	u64 key = key_of_block(thread, address);
	struct young_places places;
	struct young_block *entry;
	struct kwatch_heap block;

	if (!places_of_block(&places, key))
		return false;
	entry = entry_with(&places, key);
	if (!entry) {
		orphan(&places, ended(key)); /* the order of the events at an address matters */
		return false;
	}
	if (thread->owes_event || entry->forks != forks_of(thread->tgid)) {
		orphan(&places, key);
		return false;
	}
	if (!change_key(entry, key, YOUNG_BUSY))
		return false;
	block = entry->event;
	if (!count_release(thread, &block, stack)) {
		keep_entry(entry, orphaned(key), places.index);
		return false;
	}
	leave_address(&entry->event);
	keep_entry(entry, ended(key), places.index);
	count_pair(thread, &block);
	return true;
}

/* A release of the block has an event of its own. */
static __always_inline void orphan_young(struct thread *thread, u64 address)
{
	u64 key = key_of_block(thread, address);
	struct young_places places;

	if (address && places_of_block(&places, key) && !orphan(&places, key))
		orphan(&places, ended(key));
}

#endif
