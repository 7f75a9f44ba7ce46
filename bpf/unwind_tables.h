/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The unwind tables and the mappings of each process. kwatch/tables/row_store.py writes the rows,
 * kwatch/tables/mapping_store.py the mappings.
 */
#ifndef KWATCH_UNWIND_TABLES_H
#define KWATCH_UNWIND_TABLES_H

#include "maps.h"
#include "unwind_rows.h"

#define MAX_SHARDS 512
#define MAX_CODE_MAPPINGS 131072 /* of all processes */

#define FIRST_MAPPING(space) ((u32)(space)->code)
#define MAPPING_COUNT(space) ((u32)((space)->code >> 32))

BPF_F_TABLE("array", u32, struct kwatch_row, row_shard, SHARD_ROWS, BPF_F_MMAPABLE);
BPF_ARRAY_OF_MAPS(row_shards, "row_shard", MAX_SHARDS);
BPF_ARRAY(code_mappings, struct code_mapping, MAX_CODE_MAPPINGS);
BPF_HASH(spaces, u32, struct space, 32768);

static __always_inline struct kwatch_row *find_row(u32 number)
{
	int shard_number = number >> SHARD_SHIFT;
	u32 index = number & (SHARD_ROWS - 1);
	void *shard = row_shards.lookup(&shard_number);

	return shard ? bpf_map_lookup_elem(shard, &index) : NULL;
}

static __always_inline bool contains(struct code_mapping *mapping, u64 address)
{
	return address >= mapping->start && address < mapping->end;
}

/* The last of the space's mappings that starts at the address or below. */
static __always_inline u32 last_mapping_below(struct space *space, u64 address)
{
	u32 low = FIRST_MAPPING(space), high = low + MAPPING_COUNT(space) - 1;

#pragma clang loop unroll(disable)
	for (int i = 0; i < CODE_STEPS; i++) {
		int middle = (low + high + 1) >> 1;
		struct code_mapping *mapping;

		if (low >= high)
			break;
		mapping = code_mappings.lookup(&middle);
		if (!mapping)
			break;
		if (mapping->start <= address)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* `hint`: the last mapping that was found; it is tried first. */
static __always_inline struct code_mapping *find_mapping(struct space *space, u64 address,
							 u32 *hint)
{
	struct code_mapping *mapping;
	int number = *hint;

	if (!MAPPING_COUNT(space))
		return NULL;
	if ((u32)number - FIRST_MAPPING(space) < MAPPING_COUNT(space)) {
		mapping = code_mappings.lookup(&number);
		if (mapping && contains(mapping, address))
			return mapping;
	}
	number = last_mapping_below(space, address);
	*hint = number;
	mapping = code_mappings.lookup(&number);
	return mapping && contains(mapping, address) ? mapping : NULL;
}

/* The rule for an address of the mapping; ROW_NONE if there is none. */
static __always_inline u32 find_rule(struct code_mapping *mapping, u64 address)
{
	u64 pc = address - mapping->bias;
	struct kwatch_row *row;
	u32 low, high;

	if (pc >> KWATCH_BLOCK_SHIFT >= mapping->block_count)
		return ROW_NONE;
	row = find_row(mapping->blocks + (u32)(pc >> KWATCH_BLOCK_SHIFT));
	if (!row)
		return ROW_NONE;
	low = row->pc;
	high = row->rule;
#pragma clang loop unroll(disable)
	for (int i = 0; i < KWATCH_BLOCK_STEPS; i++) {
		u32 middle = (low + high + 1) >> 1;

		if (low >= high)
			break;
		row = find_row(middle);
		if (!row)
			return ROW_NONE;
		if (row->pc <= (u32)pc)
			low = middle;
		else
			high = middle - 1;
	}
	row = find_row(low);
	return row ? row->rule : ROW_NONE;
}

/*
 * Tells Python if known code was there. Until it has handled that, the process has no tables.
 * `is_code`: new code was mapped there, which Python knows of already and must keep.
 */
static __always_inline void forget_code(void *ctx, u32 tgid, u64 start, u64 size, bool is_code)
{
	struct space *space = spaces.lookup(&tgid);
	struct kwatch_code_unmapped event = {};
	struct code_mapping *mapping;
	struct target *target;
	int number;

	if (!space || !MAPPING_COUNT(space))
		return;
	number = last_mapping_below(space, start + size - 1);
	mapping = code_mappings.lookup(&number);
	if (!mapping || mapping->end <= start || mapping->start >= start + size)
		return;
	/* Not earlier: the verifier of 5.10 cannot track two pointers through one branch. */
	target = find_target(tgid);
	if (!target)
		return;
	__sync_fetch_and_add(&target->unmaps, 1);
	head(&event.head, EVENT_CODE_UNMAPPED, tgid);
	event.unmaps = *(volatile u32 *)&target->unmaps;
	event.start = start;
	event.size = is_code ? 0 : size;
	send_control(ctx, &event, sizeof(event), tgid);
}

#endif
