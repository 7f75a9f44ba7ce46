// build: -g -O0 -w
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frees after `ready` what it allocated before: each block once, one of them again, and a block that
 * was freed before already. Prints how many blocks were freed once.
 */
#include "answers.h"

enum { BLOCKS = 1009 };

static void *blocks[BLOCKS];

static void *survive(void)
{
	char *freed = malloc(5000), *guard = malloc(24);

	blocks[0] = guard;
	free(freed); /* glibc merges it with nothing: it is between two blocks */
	return freed;
}

NOINLINE static void free_again(void *block)
{
	free(block);
}

int main(int argc, char **argv)
{
	void *freed = survive();

	parse_now(argc, argv);
	for (int i = 1; i < BLOCKS; i++)
		blocks[i] = malloc(6000 + i);
	stage("ready");
	for (int i = 0; i < BLOCKS; i++)
		free(blocks[i]);
	answer("blocks", BLOCKS);
	stage("done");
	if (number(argc, argv, 1, 0))
		free_again(freed);
	else
		free_again(blocks[BLOCKS / 2]);
	return 0;
}
