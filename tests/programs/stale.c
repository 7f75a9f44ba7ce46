// build: -O1 -g -fno-omit-frame-pointer
// SPDX-License-Identifier: Apache-2.0
/*
 * Errors with blocks from make_node(), of 36 bytes. `freed`: a block is freed, 7 writes reach it, and
 * foreign() gets its memory and writes 100 times. `end`: 5 writes behind a live block, in the bytes
 * that it was not asked for; then 3 in the block. `good`: the same without the errors.
 * `many`: good, with 30011 other blocks before the writes, which stay.
 */
#include "answers.h"

#define SIZE 36

NOINLINE static char *make_node(void)
{
	char *volatile block = malloc(SIZE);

	return block;
}

NOINLINE static void scribble(volatile char *block, int at, int times)
{
	for (int i = 0; i < times; i++)
		*(volatile int *)(block + at) = i;
}

NOINLINE static void foreign(void *expected)
{
	char *volatile block = malloc(SIZE);

	answer("same", block == expected);
	scribble(block, 16, 100);
	free(block);
}

NOINLINE static void keep_many(void)
{
	for (int i = 0; i < 30011; i++) {
		void *volatile kept = malloc(24);

		(void)kept;
	}
	stage("kept");
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "good";
	int is_freed = !strcmp(what, "freed"), is_end = !strcmp(what, "end");
	char *block;

	parse_now(argc, argv);
	stage("ready");
	block = make_node();
	answer("block", (long)block);
	stage("begun");
	if (!strcmp(what, "many"))
		keep_many();
	if (is_end)
		scribble(block, SIZE, 5);
	scribble(block, 16, 3);
	free(block);
	stage("freed");
	if (is_freed)
		scribble(block, 16, 7);
	foreign(block);
	stage("done");
	return 0;
}
