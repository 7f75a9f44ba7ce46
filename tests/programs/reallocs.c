// build: -O1 -g -fno-omit-frame-pointer -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * Every form of realloc. Each runs a different prime number of times and keeps blocks of a size of
 * its own, so that a form that is counted wrongly can be told from the sizes that remain.
 */
#include <stdint.h>

#include "answers.h"

static volatile size_t huge = PTRDIFF_MAX;
static void *volatile sink;
static long mallocs, reallocs, failed, released, live_blocks, live_bytes;

static void *allocate(size_t size)
{
	mallocs++;
	return sink = malloc(size);
}

static void *resize(void *block, size_t size)
{
	reallocs++;
	return sink = realloc(block, size);
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
		free(rest);
	released += rest != NULL;
}

NOINLINE static void fail(void)
{
	void *block = allocate(1601);

	if (!resize(block, huge))
		failed++;
	keep(1601);
}

NOINLINE static void fail_and_free(void)
{
	void *block = allocate(1709);

	if (!resize(block, huge))
		failed++;
	free(block);
	released++;
}

/* The product overflows, so that glibc refuses before realloc is reached. */
NOINLINE static void array_overflow(void)
{
	void *block = allocate(1801);

	if (!(sink = reallocarray(block, huge, 16)))
		failed++;
	keep(1801);
}

NOINLINE static void array_grow(void)
{
	sink = reallocarray(allocate(19), 173, 11);
	keep(173 * 11);
}

NOINLINE static void moved_and_freed(void)
{
	void *block = allocate(23);
	void *fence = allocate(29);

	free(resize(block, 30011));
	free(fence);
	released += 2;
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
	answer("mallocs", mallocs);
	answer("reallocs", reallocs);
	answer("reallocarrays", 23 + 29);
	answer("failed", failed);
	answer("frees", released);
	answer("live_blocks", live_blocks);
	answer("live_bytes", live_bytes);
	stage("done");
	return 0;
}
