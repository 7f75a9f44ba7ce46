// build: -O1 -g -fno-omit-frame-pointer
// SPDX-License-Identifier: Apache-2.0
/* Balanced pairs, and two leaks that differ in function, size and number. */
#include "answers.h"

#ifndef PAIRS
#define PAIRS 100003
#endif
#define SMALL_BLOCKS 101
#define SMALL_SIZE 100
#define BIG_BLOCKS 13
#define BIG_SIZE 4099

static void *volatile sink;

NOINLINE static void balanced(int i)
{
	sink = malloc(16 + i % 1009);
	free(sink);
}

NOINLINE static void leak_small(void)
{
	sink = malloc(SMALL_SIZE);
}

NOINLINE static void leak_big(void)
{
	sink = malloc(BIG_SIZE);
}

int main(int argc, char **argv)
{
	parse_now(argc, argv);
	stage("ready");
	for (int i = 0; i < PAIRS; i++)
		balanced(i);
	for (int i = 0; i < SMALL_BLOCKS; i++)
		leak_small();
	for (int i = 0; i < BIG_BLOCKS; i++)
		leak_big();
	sink = NULL;
	answer("mallocs", PAIRS + SMALL_BLOCKS + BIG_BLOCKS);
	answer("frees", PAIRS);
	answer("small_blocks", SMALL_BLOCKS);
	answer("small_bytes", SMALL_BLOCKS * SMALL_SIZE);
	answer("big_blocks", BIG_BLOCKS);
	answer("big_bytes", BIG_BLOCKS * BIG_SIZE);
	answer("live_blocks", SMALL_BLOCKS + BIG_BLOCKS);
	answer("live_bytes", SMALL_BLOCKS * SMALL_SIZE + BIG_BLOCKS * BIG_SIZE);
	stage("done");
	return 0;
}
