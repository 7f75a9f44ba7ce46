// build: -O1 -g
// SPDX-License-Identifier: Apache-2.0
/*
 * An allocator, arena_malloc and arena_free, whose blocks can also end all at once. Their addresses are
 * used again, by blocks that are freed at once. Stages: `ready`, `kept`, `done`.
 */
#include "answers.h"

#define BLOCKS 101
#define SIZE 48

static char arena[BLOCKS * SIZE];
static int used;

NOINLINE void *arena_malloc(size_t size)
{
	return size == SIZE && used < BLOCKS ? arena + SIZE * used++ : NULL;
}

NOINLINE void arena_free(void *block)
{
	*(volatile char *)block = 0;
}

NOINLINE static void arena_reset(void)
{
	used = 0;
}

int main(int argc, char **argv)
{
	parse_now(argc, argv);
	stage("ready");
	for (int i = 0; i < BLOCKS; i++)
		arena_malloc(SIZE);
	answer("kept", BLOCKS);
	stage("kept");
	arena_reset();
	for (int i = 0; i < BLOCKS; i++)
		arena_free(arena_malloc(SIZE));
	stage("done");
	return 0;
}
