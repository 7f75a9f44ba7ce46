/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The table of young_blocks.h. An entry is changed only by the program that has claimed it, whose key
 * is then YOUNG_BUSY. Programs can be preempted, so none waits for another one.
 */
#ifndef KWATCH_YOUNG_TABLE_H
#define KWATCH_YOUNG_TABLE_H

/* A free entry; one that a program is working on; higher keys are of blocks and of sums. */
enum young_key {
	YOUNG_EMPTY,
	YOUNG_BUSY,
	YOUNG_KEYS,
};

struct young_block {
	u64 key;
	u64 forks; /* see forks_of */
	struct kwatch_heap event; /* EVENT_ALLOC, EVENT_REUSED; or sums: EVENT_PAIRS, EVENT_RELEASES */
};

BPF_F_TABLE("array", int, struct young_block, young_blocks, YOUNG_ENTRIES, BPF_F_MMAPABLE);
BPF_F_TABLE("array", int, struct kwatch_heap, taken_blocks, YOUNG_ENTRIES, BPF_F_MMAPABLE);
BPF_F_TABLE("array", int, struct young_state, young_state, 1, BPF_F_MMAPABLE);

static __always_inline struct young_state *state_of_young(void)
{
	int first = 0;

	return young_state.lookup(&first);
}

/* Blocks that are near each other have entries near each other, which are taken out together. */
static __always_inline u32 spread(u64 key)
{
	return key >> 4 ^ (key >> 17) * GOLDEN_RATIO >> 32;
}

/* The two places of a key. */
struct young_places {
	struct young_block *first;
	struct young_block *second;
	u32 index;
};

static __always_inline bool places_at(struct young_places *found, u32 index)
{
	int at = index;

	found->index = index;
	found->first = young_blocks.lookup(&at);
	at ^= 1;
	found->second = young_blocks.lookup(&at);
	return found->first && found->second;
}

static __always_inline bool places_of_block(struct young_places *found, u64 key)
{
	return key >= YOUNG_KEYS && places_at(found, spread(key) & (YOUNG_BLOCKS_ROOM - 1));
}

static __always_inline bool places_of_sums(struct young_places *found, u64 key)
{
	return key >= YOUNG_KEYS &&
	       places_at(found, YOUNG_BLOCKS_ROOM + (key >> 32 & (YOUNG_SUMS_ROOM - 1)));
}

/* The entry with the key, or NULL. */
static __always_inline struct young_block *entry_with(struct young_places *places, u64 key)
{
	if (*(volatile u64 *)&places->first->key == key)
		return places->first;
	return *(volatile u64 *)&places->second->key == key ? places->second : NULL;
}

static __always_inline bool change_key(struct young_block *entry, u64 from, u64 to)
{
	return __sync_val_compare_and_swap(&entry->key, from, to) == from;
}

/* An empty entry, which is busy now; NULL if there is none. */
static __always_inline struct young_block *claim_empty(struct young_places *places)
{
	struct young_block *entry = entry_with(places, YOUNG_EMPTY);

	return entry && change_key(entry, YOUNG_EMPTY, YOUNG_BUSY) ? entry : NULL;
}

/* Ends the work on an entry. The reader looks only into groups that are marked, after this. */
static __always_inline void keep_entry(struct young_block *entry, u64 key, u32 index)
{
	struct young_state *state = state_of_young();
	u32 group = index / YOUNG_GROUP;

	change_key(entry, YOUNG_BUSY, key);
	if (!state || group >= YOUNG_GROUPS)
		return;
	if (!*(volatile u64 *)&state->is_used[group])
		*(volatile u64 *)&state->is_used[group] = 1;
}

struct take_context {
	u64 group;
	u64 taken;
};

/*
 * The reader runs this to take out what a group of entries has. Returns how many records are in
 * taken_blocks, which had ctx->taken before.
 */
int take_young(struct take_context *ctx)
{
	struct young_state *state = state_of_young();
	u32 group = ctx->group;
	int taken = ctx->taken;

	if (!state || group >= YOUNG_GROUPS)
		return taken;
	__sync_val_compare_and_swap(&state->is_used[group], 1, 0);
#pragma clang loop unroll(disable)
	for (int i = 0; i < YOUNG_GROUP; i++) {
		int index = group * YOUNG_GROUP + i;
		struct young_block *entry = young_blocks.lookup(&index);
		struct kwatch_heap *record;
		u64 key;

		if (!entry)
			break;
		key = *(volatile u64 *)&entry->key;
		if (key < YOUNG_KEYS || !change_key(entry, key, YOUNG_BUSY))
			continue;
		record = taken_blocks.lookup(&taken);
		if (!record) { /* impossible: it has as many entries */
			publish(&entry->key, key);
			break;
		}
		*record = entry->event;
		publish(&entry->key, YOUNG_EMPTY);
		taken++;
	}
	return taken;
}

#endif
