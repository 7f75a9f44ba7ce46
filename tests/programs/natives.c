// build: -O1 -g -D_GNU_SOURCE -ldl
// SPDX-License-Identifier: Apache-2.0
/*
 * natives jemalloc|mimalloc: uses the allocator's own functions, from a preloaded library. Blocks of
 * malloc are freed by functions of its own, too.
 */
#include <dlfcn.h>

#include "answers.h"

#define ROUNDS 211

static long live_blocks, live_bytes, allocs, frees;
static void *volatile sink;

static void *find(const char *name)
{
	void *found = dlsym(RTLD_DEFAULT, name);

	if (!found)
		_exit(113);
	return found;
}

static void kept(long blocks, long bytes)
{
	live_blocks += blocks;
	live_bytes += bytes;
}

static void use_jemalloc(void)
{
	void *(*mallocx)(size_t, int) = find("mallocx");
	void *(*rallocx)(void *, size_t, int) = find("rallocx");
	void (*sdallocx)(void *, size_t, int) = find("sdallocx");
	void (*dallocx)(void *, int) = find("dallocx");

	for (int i = 0; i < ROUNDS; i++) {
		sink = malloc(100);
		sdallocx(sink, 100, 0);
		sink = mallocx(200, 0);
		free(sink);
		sink = mallocx(300, 0);
		sink = rallocx(sink, 30000, 0);
		dallocx(sink, 0);
		sink = mallocx(500, 6);
	}
	kept(ROUNDS, ROUNDS * 500L);
	allocs += 5 * ROUNDS;
	frees += 4 * ROUNDS;
}

static void use_mimalloc(void *heap)
{
	void *(*zalloc)(size_t) = find("mi_zalloc");
	void *(*malloc_aligned)(size_t, size_t) = find("mi_malloc_aligned");
	void *(*realloc_aligned)(void *, size_t, size_t) = find("mi_realloc_aligned");
	void *(*mallocn)(size_t, size_t) = find("mi_mallocn");
	void *(*recalloc)(void *, size_t, size_t) = find("mi_recalloc");
	void *(*heap_zalloc)(void *, size_t) = find("mi_heap_zalloc");
	void (*free_size)(void *, size_t) = find("mi_free_size");

	for (int i = 0; i < ROUNDS; i++) {
		sink = zalloc(100);
		free_size(sink, 100);
		sink = malloc_aligned(200, 64);
		sink = realloc_aligned(sink, 20000, 64);
		free(sink);
		sink = mallocn(7, 43);
		sink = recalloc(sink, 7, 400);
		free(sink);
		sink = heap_zalloc(heap, 500);
	}
	kept(ROUNDS, ROUNDS * 500L);
	allocs += 6 * ROUNDS;
	frees += 5 * ROUNDS;
}

int main(int argc, char **argv)
{
	bool is_jemalloc = argc > 1 && strcmp(argv[1], "jemalloc") == 0;
	void *(*heap_new)(void) = is_jemalloc ? NULL : find("mi_heap_new");
	void *heap = heap_new ? heap_new() : NULL;

	parse_now(argc, argv);
	stage("ready");
	if (is_jemalloc)
		use_jemalloc();
	else
		use_mimalloc(heap);
	answer("live_blocks", live_blocks);
	answer("live_bytes", live_bytes);
	answer("allocs", allocs);
	answer("frees", frees);
	stage("done");
	return 0;
}
