// build: -O1 -g
// SPDX-License-Identifier: Apache-2.0
/* An allocator whose functions are arena_malloc and arena_free; the program leaks 17 blocks. */
#include "answers.h"

#define BLOCKS 31
#define FREED 14
#define SIZE 40

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

int main(int argc, char **argv)
{
	void *blocks[BLOCKS];

	parse_now(argc, argv);
	stage("ready");
	for (int i = 0; i < BLOCKS; i++)
		blocks[i] = arena_malloc(SIZE);
	for (int i = 0; i < FREED; i++)
		arena_free(blocks[i]);
	answer("live_blocks", BLOCKS - FREED);
	answer("live_bytes", (BLOCKS - FREED) * SIZE);
	answer("mallocs", BLOCKS);
	answer("frees", FREED);
	stage("done");
	return 0;
}
