// build: -O1 -g -fno-omit-frame-pointer -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * Every allocating function of C. Each keeps a prime number of blocks of a unique size and frees
 * others. Four calls fail. -DNO_PVALLOC is for an allocator without pvalloc (jemalloc), whose free
 * must not get a block that glibc's pvalloc returned.
 */
#include <malloc.h>
#include <stdint.h>

#include "answers.h"

#define FREED 37

static volatile size_t huge = PTRDIFF_MAX;
static void *volatile sink;
static long frees, live_blocks, live_bytes, failed;

NOINLINE static void *with_malloc(void)
{
	return malloc(1103);
}

NOINLINE static void *with_calloc(void)
{
	return calloc(7, 173);
}

NOINLINE static void *with_realloc(void)
{
	return realloc(NULL, 1307);
}

NOINLINE static void *with_reallocarray(void)
{
	return reallocarray(NULL, 11, 127);
}

NOINLINE static void *with_posix_memalign(void)
{
	void *block = NULL;

	return posix_memalign(&block, 64, 1423) ? NULL : block;
}

NOINLINE static void *with_aligned_alloc(void)
{
	return aligned_alloc(64, 1536);
}

NOINLINE static void *with_memalign(void)
{
	return memalign(128, 1601);
}

#ifdef __GLIBC__
NOINLINE static void *with_valloc(void)
{
	return valloc(1709);
}
#endif

#if defined(__GLIBC__) && !defined(NO_PVALLOC)
NOINLINE static void *with_pvalloc(void)
{
	return pvalloc(1801);
}
#endif

static void exercise(const char *name, void *(*allocate)(void), int kept, long size)
{
	char key[64];

	for (int i = 0; i < kept; i++)
		sink = allocate();
	for (int i = 0; i < FREED; i++)
		free(sink = allocate());
	frees += FREED;
	live_blocks += kept;
	live_bytes += kept * size;
	snprintf(key, sizeof(key), "%s_blocks", name);
	answer(key, kept);
	snprintf(key, sizeof(key), "%s_size", name);
	answer(key, size);
}

static void fail(void)
{
	void *block = NULL;

	failed += (sink = malloc(huge)) == NULL;
	failed += (sink = calloc(huge, 16)) == NULL;
	failed += posix_memalign(&block, 64, huge) != 0;
	failed += posix_memalign(&block, 3, 64) != 0;
	free(NULL);
}

int main(int argc, char **argv)
{
	parse_now(argc, argv);
	stage("ready");
	exercise("malloc", with_malloc, 3, 1103);
	exercise("calloc", with_calloc, 5, 7 * 173);
	exercise("realloc", with_realloc, 7, 1307);
	exercise("reallocarray", with_reallocarray, 11, 11 * 127);
	exercise("posix_memalign", with_posix_memalign, 13, 1423);
	exercise("aligned_alloc", with_aligned_alloc, 17, 1536);
	exercise("memalign", with_memalign, 19, 1601);
#ifdef __GLIBC__
	exercise("valloc", with_valloc, 23, 1709);
#endif
#if defined(__GLIBC__) && !defined(NO_PVALLOC)
	exercise("pvalloc", with_pvalloc, 29, 1801);
#endif
	fail();
	sink = NULL;
	answer("allocs", live_blocks + frees);
	answer("frees", frees);
	answer("failed", failed);
	answer("live_blocks", live_blocks);
	answer("live_bytes", live_bytes);
	stage("done");
	return 0;
}
