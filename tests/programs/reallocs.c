// build: -O1 -g -fno-omit-frame-pointer -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * Every form of realloc. Each runs a different prime number of times and keeps blocks of a unique
 * size, so the remaining sizes show which form is counted wrongly. A successful realloc counts as
 * one of `frees` and one of `allocs`.
 */
#include <stdint.h>

#include "answers.h"

static volatile size_t huge = PTRDIFF_MAX;
static void *volatile sink;
static long allocs, frees, failed, live_blocks, live_bytes;

static void *allocate(size_t size)
{
	allocs++;
	return sink = malloc(size);
}

static void release(void *block)
{
	frees++;
	free(block);
}

static void *resize(void *block, size_t size)
{
	sink = realloc(block, size);
	failed += !sink && size;
	allocs += sink != NULL;
	frees += block && (sink || !size);
	return sink;
}

static void keep(size_t size)
{
	live_blocks++;
	live_bytes += size;
}

NOINLINE static void grow_in_steps(void)
{
	void *block = allocate(11);

	for (size_t size = 101; size < 20000; size *= 3)
		block = resize(block, size);
	resize(block, 20011);
	keep(20011);
}

NOINLINE static void shrink(void)
{
	resize(allocate(5003), 1201);
	keep(1201);
}

NOINLINE static void same_size(void)
{
	resize(allocate(1301), 1301);
	keep(1301);
}

NOINLINE static void from_null(void)
{
	resize(NULL, 1409);
	keep(1409);
}

/* glibc frees the block and returns NULL; others return a block that has no bytes. */
NOINLINE static void to_zero(void)
{
	void *rest = resize(allocate(1511), 0);

	if (rest)
		release(rest);
}

NOINLINE static void fail(void)
{
	resize(allocate(1601), huge);
	keep(1601);
}

NOINLINE static void fail_and_free(void)
{
	void *block = allocate(1709);

	resize(block, huge);
	release(block);
}

/* The product overflows, so the C library refuses before it calls realloc. */
NOINLINE static void array_overflow(void)
{
	failed += !(sink = reallocarray(allocate(1801), huge, 16));
	keep(1801);
}

NOINLINE static void array_grow(void)
{
	sink = reallocarray(allocate(19), 173, 11);
	allocs++;
	frees++;
	keep(173 * 11);
}

NOINLINE static void moved_and_freed(void)
{
	void *block = allocate(23);
	void *fence = allocate(29);

	release(resize(block, 30011));
	release(fence);
}

static void repeat(void (*form)(void), int times)
{
	while (times--)
		form();
}

int main(int argc, char **argv)
{
	parse_now(argc, argv);
	stage("ready");
	repeat(grow_in_steps, 3);
	repeat(shrink, 5);
	repeat(same_size, 7);
	repeat(from_null, 11);
	repeat(to_zero, 13);
	repeat(fail, 17);
	repeat(fail_and_free, 19);
	repeat(array_overflow, 23);
	repeat(array_grow, 29);
	repeat(moved_and_freed, 31);
	sink = NULL;
	answer("allocs", allocs);
	answer("frees", frees);
	answer("failed", failed);
	answer("live_blocks", live_blocks);
	answer("live_bytes", live_bytes);
	stage("done");
	return 0;
}
