// SPDX-License-Identifier: Apache-2.0
/*
 * heap BLOCKS MEAN POINTERS: a heap of blocks of MEAN bytes on average, each with so many pointers
 * to random others, all held by one table. Without pointers, the blocks are one list in a random
 * order. Writes the address and the size of each block into the file descriptor that it prints.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "answers.h"

static void **table;

/* xorshift64: the same heap in each run. */
static unsigned long next_random(void)
{
	static unsigned long state = 15;

	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static void link_all(long blocks, long pointers)
{
	for (long i = 0; i < blocks; i++)
		for (long j = 0; j < pointers; j++)
			((void **)table[i])[j] = table[next_random() % blocks];
}

/* Sattolo's shuffle, and then the list; only its first block stays in the table. */
static void chain_all(long blocks)
{
	for (long i = blocks - 1; i > 0; i--) {
		long other = next_random() % i;
		void *moved = table[i];

		table[i] = table[other];
		table[other] = moved;
	}
	for (long i = 0; i + 1 < blocks; i++)
		*(void **)table[i] = table[i + 1];
	for (long i = 1; i < blocks; i++)
		table[i] = NULL;
}

static void write_block(int file, void *block, unsigned long size)
{
	unsigned long pair[2] = { (unsigned long)block, size };

	if (write(file, pair, sizeof(pair)) != sizeof(pair))
		_exit(114);
}

int main(int argc, char **argv)
{
	long blocks = number(argc, argv, 1, 1000), mean = number(argc, argv, 2, 128);
	long pointers = number(argc, argv, 3, 1), least = 8 * pointers + 16;
	int file = memfd_create("blocks", 0);

	table = malloc(8 * blocks);
	write_block(file, table, 8 * blocks);
	for (long i = 0; i < blocks; i++) {
		unsigned long size = least + next_random() % (2 * (mean - least) + 1);

		table[i] = memset(malloc(size), 1, size);
		write_block(file, table[i], size);
	}
	if (pointers)
		link_all(blocks, pointers);
	else
		chain_all(blocks);
	answer("blocks_file", file);
	stage("ready");
	return 0;
}
