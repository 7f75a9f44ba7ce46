// build: -O1 -g
// SPDX-License-Identifier: Apache-2.0
/*
 * Allocators with names of their own, as jemalloc, mimalloc, Firefox and DuckDB have them, all in one
 * arena. The wrap_ functions are no such family: they only have similar names, and take a context
 * first. Nothing calls malloc.
 */
#include <stdint.h>

#include "answers.h"

#define WRAPPED 101

static char arena[1 << 20];
static size_t used;
static long live_blocks, live_bytes, allocs, frees;

/* Each caller keeps or releases what it gets, so that only these two count. */
static void *taken(long size)
{
	void *block = arena + used;

	used += (size + 63) & ~15UL;
	return block;
}

static void touch(void *block)
{
	*(volatile char *)block = 0;
}

NOINLINE void *_own_mallocx(size_t size, int flags)
{
	return flags ? NULL : taken(size);
}

NOINLINE void *_own_rallocx(void *block, size_t size, int flags)
{
	touch(block);
	return flags ? NULL : taken(size);
}

NOINLINE size_t _own_xallocx(void *block, size_t size, size_t extra, int flags)
{
	touch(block);
	return flags ? 1 : size + extra;
}

NOINLINE void _own_sdallocx(void *block, size_t size, int flags)
{
	touch(block);
	(void)size, (void)flags;
}

NOINLINE void _own_dallocx(void *block, int flags)
{
	touch(block);
	(void)flags;
}

NOINLINE void *own_mi_malloc_aligned(size_t size, size_t alignment)
{
	return alignment ? taken(size) : NULL;
}

NOINLINE void *own_mi_realloc_aligned(void *block, size_t size, size_t alignment)
{
	touch(block);
	return alignment ? taken(size) : NULL;
}

NOINLINE void *own_mi_reallocf(void *block, size_t size)
{
	touch(block);
	return size > sizeof(arena) ? NULL : taken(size);
}

NOINLINE void *own_mi_heap_calloc(void *heap, size_t count, size_t size)
{
	touch(heap);
	return taken(count * size);
}

NOINLINE void *own_mi_heap_recalloc(void *heap, void *block, size_t count, size_t size)
{
	touch(heap);
	touch(block);
	return taken(count * size);
}

NOINLINE void own_mi_free(void *block)
{
	touch(block);
}

NOINLINE void *moz_arena_malloc(size_t id, size_t size)
{
	return id ? taken(size) : NULL;
}

NOINLINE void *moz_arena_realloc(size_t id, void *block, size_t size)
{
	touch(block);
	return id ? taken(size) : NULL;
}

NOINLINE void *moz_arena_memalign(size_t id, size_t alignment, size_t size)
{
	return id && alignment ? taken(size) : NULL;
}

NOINLINE void moz_arena_free(size_t id, void *block)
{
	touch(block);
	(void)id;
}

NOINLINE void *_ZN6duckdb9Allocator15DefaultAllocateEPNS_20PrivateAllocatorDataEm(void *data,
										size_t size)
{
	touch(data);
	return taken(size);
}

NOINLINE void *_ZN6duckdb9Allocator17DefaultReallocateEPNS_20PrivateAllocatorDataEPhmm(
	void *data, void *block, size_t old, size_t size)
{
	touch(data);
	touch(block);
	return taken(size + 0 * old);
}

NOINLINE void _ZN6duckdb9Allocator11DefaultFreeEPNS_20PrivateAllocatorDataEPhm(void *data, void *block,
									    size_t size)
{
	touch(data);
	touch(block);
	(void)size;
}

NOINLINE void *pre_malloc(size_t size)
{
	return taken(size);
}

NOINLINE void *pre_calloc(size_t count, size_t size)
{
	return taken(count * size);
}

NOINLINE void *pre_realloc(void *block, size_t size)
{
	touch(block);
	return taken(size);
}

NOINLINE int pre_posix_memalign(void **block, size_t alignment, size_t size)
{
	*block = taken(size + 0 * alignment);
	return 0;
}

NOINLINE void pre_free(void *block)
{
	touch(block);
}

NOINLINE void *wrap_malloc(void *context, size_t size)
{
	touch(context);
	return taken(size);
}

NOINLINE void *wrap_calloc(void *context, size_t size)
{
	touch(context);
	return taken(size);
}

NOINLINE void *wrap_realloc(void *context, void *block)
{
	touch(context);
	touch(block);
	return taken(1);
}

NOINLINE void wrap_free(void *context, void *block)
{
	touch(context);
	touch(block);
}

/* An allocation of this size. `was`: the size of the block that it replaces, 0 if none. */
static void *got(void *block, long size, long was)
{
	allocs++;
	frees += was > 0;
	live_blocks += was == 0;
	live_bytes += size - was;
	return block;
}

static void ended(long size)
{
	frees++;
	live_blocks--;
	live_bytes -= size;
}

static void use_jemalloc(void)
{
	void *block = got(_own_mallocx(1009, 0), 1009, 0);

	block = got(_own_rallocx(block, 2003, 0), 2003, 1009);
	got(_own_xallocx(block, 4001, 7, 0) ? block : NULL, 4001, 2003);
	_own_xallocx(block, 65536, 0, 1); /* fails: the block stays as it is */
	block = got(_own_mallocx(11, 0), 11, 0);
	_own_sdallocx(block, 11, 0);
	ended(11);
	block = got(_own_mallocx(13, 0), 13, 0);
	_own_dallocx(block, 0);
	ended(13);
}

static void use_mimalloc(void)
{
	void *block = got(own_mi_malloc_aligned(503, 64), 503, 0);

	block = got(own_mi_realloc_aligned(block, 601, 64), 601, 503);
	own_mi_reallocf(block, SIZE_MAX / 2); /* fails, and frees the block */
	ended(601);
	block = got(own_mi_heap_calloc(arena, 7, 101), 707, 0);
	block = got(own_mi_heap_recalloc(arena, block, 11, 101), 1111, 707);
	block = got(own_mi_malloc_aligned(17, 64), 17, 0);
	own_mi_free(block);
	ended(17);
}

static void use_arenas(void)
{
	void *block = got(moz_arena_malloc(3, 211), 211, 0);

	got(moz_arena_realloc(3, block, 307), 307, 211);
	got(moz_arena_memalign(3, 64, 401), 401, 0);
	block = got(moz_arena_malloc(3, 19), 19, 0);
	moz_arena_free(3, block);
	ended(19);
}

static void use_duckdb(void)
{
	void *block =
		got(_ZN6duckdb9Allocator15DefaultAllocateEPNS_20PrivateAllocatorDataEm(arena, 71), 71, 0);

	block = got(_ZN6duckdb9Allocator17DefaultReallocateEPNS_20PrivateAllocatorDataEPhmm(arena, block,
											   71, 73),
		    73, 71);
	block = got(_ZN6duckdb9Allocator15DefaultAllocateEPNS_20PrivateAllocatorDataEm(arena, 79), 79,
		    0);
	_ZN6duckdb9Allocator11DefaultFreeEPNS_20PrivateAllocatorDataEPhm(arena, block, 79);
	ended(79);
}

static void use_prefixed(void)
{
	void *block = got(pre_malloc(83), 83, 0);

	got(pre_realloc(block, 89), 89, 83);
	got(pre_calloc(3, 29), 87, 0);
	pre_posix_memalign(&block, 64, 97);
	got(block, 97, 0);
	pre_free(block);
	ended(97);
}

static void use_wrappers(void)
{
	for (int i = 0; i < WRAPPED; i++) {
		wrap_free(arena, wrap_realloc(arena, wrap_malloc(arena, 31)));
		wrap_free(arena, wrap_calloc(arena, 37));
	}
}

int main(int argc, char **argv)
{
	parse_now(argc, argv);
	stage("ready");
	use_jemalloc();
	use_mimalloc();
	use_arenas();
	use_duckdb();
	use_prefixed();
	use_wrappers();
	answer("live_blocks", live_blocks);
	answer("live_bytes", live_bytes);
	answer("allocs", allocs);
	answer("frees", frees);
	answer("failed", 1); /* own_mi_reallocf; a block that cannot grow in place is no failure */
	stage("done");
	return 0;
}
