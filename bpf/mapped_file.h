/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Code whose mapping Python has not published yet, such as that of a new process or of a library that
 * was just loaded. The kernel's VMAs say which file is mapped there, and the file's table may already
 * be loaded.
 *
 * The VMAs are read without their lock, so they may change meanwhile: a result counts only if it
 * contains the address. Offsets come from the kernel's BTF. On a kernel whose structures differ,
 * nothing is found, and Python publishes the mapping later.
 */
#ifndef KWATCH_MAPPED_FILE_H
#define KWATCH_MAPPED_FILE_H

#include "unwind_state.h"

BPF_HASH(file_tables, struct file_key, struct file_table, 8192);

#if MM_MAPS_TREE
/*
 * A maple tree, since Linux 6.1 (commit 524e00b36e8c): include/linux/maple_tree.h. A node has 256
 * bytes, aligned to 256; the low bits of the pointer to it are its kind.
 */
#define MAPLE_LEVELS 6
#define MAPLE_NODE_SIZE 256ULL
#define MAPLE_WORDS ((u32)MAPLE_NODE_SIZE / 8)
#define MAPLE_KIND(entry) ((entry) >> 3 & 15)
#define IS_MAPLE_NODE(entry) (((entry) & 3) == 2 && (entry) > 4096)
#define MAPLE_PIVOTS 15 /* after the node's first word, its parent */
#define MAPLE_RANGE_PIVOTS 9

enum maple_kind { MAPLE_LEAF = 1, MAPLE_RANGE = 2, MAPLE_ALLOCATION_RANGE = 3 };

/* The vm_area_struct that may contain the address; 0 for none. */
static __always_inline u64 find_area(struct unwinding *u, void *mm, u64 address)
{
	u64 entry = read_u64(mm, MM_MAPS_TREE);

	if (!IS_MAPLE_NODE(entry))
		return 0;
#pragma clang loop unroll(disable)
	for (int level = 0; level < MAPLE_LEVELS; level++) {
		u32 kind = MAPLE_KIND(entry), slot = MAPLE_LEAF_SLOTS / 8, pivots = MAPLE_PIVOTS;

		if (kind == MAPLE_ALLOCATION_RANGE) {
			slot = MAPLE_RANGE_SLOTS / 8;
			pivots = MAPLE_RANGE_PIVOTS;
		}
		entry &= ~(MAPLE_NODE_SIZE - 1);
		if (bpf_probe_read_kernel(u->node, MAPLE_NODE_SIZE, (void *)entry))
			return 0;
#pragma clang loop unroll(disable)
		for (u32 i = 1; i <= MAPLE_PIVOTS; i++) {
			u64 pivot = u->node[i];

			if (i > pivots || pivot >= address || !pivot)
				break;
			slot++;
		}
		asm volatile("" : "+r"(slot));
		entry = u->node[slot & (MAPLE_WORDS - 1)];
		if (kind == MAPLE_LEAF)
			return entry;
	}
	return 0;
}
#else
#define AREA_LEVELS 32

/* The vm_area_struct that may contain the address, from the red-black tree; 0 for none. */
static __always_inline u64 find_area(struct unwinding *u, void *mm, u64 address)
{
	u64 node = read_u64(mm, MM_AREAS);

#pragma clang loop unroll(disable)
	for (int level = 0; level < AREA_LEVELS; level++) {
		void *area = (void *)node - AREA_NODE;

		if (!node)
			break;
		if (read_u64(area, AREA_END) <= address)
			node = read_u64((void *)node, NODE_RIGHT);
		else if (read_u64(area, AREA_START) > address)
			node = read_u64((void *)node, NODE_LEFT);
		else
			return (u64)area;
	}
	return 0;
}
#endif

/*
 * The file is a part of the stack's hash: code may have replaced other code that Python never
 * published.
 */
static __always_inline struct file_table *table_of_file(struct unwinding *u, void *file)
{
	void *inode = (void *)read_u64(file, FILE_INODE);
	struct file_key key = {};

	key.inode = read_u64(inode, INODE_NUMBER);
	u->hash = mix(u->hash, key.inode);
	key.size = read_u64(inode, INODE_SIZE);
	key.changed_s = read_u64(inode, INODE_MTIME);
	key.changed_ns = read_u32(inode, INODE_MTIME_NS);
	key.device = read_u32((void *)read_u64(inode, INODE_SUPER), SUPER_DEVICE);
	return file_tables.lookup(&key);
}

/* Looks up the mapping of u->wanted and keeps the result for this stack. */
static __always_inline void look_up_code(struct unwinding *u)
{
	struct code_mapping *found = &u->found[u->lookups & (MAX_LOOKUPS - 1)];
	void *mm = (void *)read_u64((void *)bpf_get_current_task(), TASK_MM);
	void *area = (void *)find_area(u, mm, u->wanted);
	u64 start = read_u64(area, AREA_START), end = read_u64(area, AREA_END), offset;
	struct file_table *table;
	void *file;

	u->lookups++;
	u->uncacheable = 1;
	found->start = u->wanted;
	found->end = u->wanted + 1;
	found->block_count = 0;
	if (u->wanted < start || u->wanted >= end)
		return;
	found->start = start;
	found->end = end;
	file = (void *)read_u64(area, AREA_FILE);
	table = file ? table_of_file(u, file) : NULL;
	offset = read_u64(area, AREA_OFFSET) * PAGE_SIZE;
	if (!table || u->wanted - start + offset - table->offset >= table->size)
		return;
	found->bias = start - offset + table->shift;
	found->blocks = table->blocks;
	found->block_count = table->block_count;
}

static __always_inline struct code_mapping *looked_up(struct unwinding *u, u64 address)
{
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MAX_LOOKUPS; i++) {
		struct code_mapping *found = &u->found[i];

		if (i >= u->lookups)
			break;
		if (contains(found, address))
			return found;
	}
	return NULL;
}

#endif
