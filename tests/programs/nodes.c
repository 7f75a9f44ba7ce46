// build: -O1 -g -fno-omit-frame-pointer
// SPDX-License-Identifier: Apache-2.0
/*
 * Writes to blocks from make_node(), of which one lives at a time.
 *
 * In each of ROUNDS rounds: a block begins, `begun`, 7 writes to its word 2, `wrote`; it is freed, and
 * foreign() gets a block of the same size, which glibc puts at the same address, and writes it 100
 * times. Between rounds, a realloc moves a block: it ends.
 */
#include "answers.h"

#define ROUNDS 3
#define WRITES 7
#define WORDS 5

NOINLINE static long *make_node(void)
{
	long *volatile block = malloc(WORDS * sizeof(long));

	return block;
}

NOINLINE static void scribble(volatile long *block, int times)
{
	for (int i = 0; i < times; i++)
		block[2] = i;
}

NOINLINE static long *foreign(void)
{
	long *volatile block = malloc(WORDS * sizeof(long));

	scribble(block, 100);
	return block;
}

int main(int argc, char **argv)
{
	long *volatile block, *volatile other;
	int same = 0;

	parse_now(argc, argv);
	stage("ready");
	for (int i = 0; i < ROUNDS; i++) {
		block = make_node();
		answer("block", (long)block);
		stage("begun");
		scribble(block, WRITES);
		stage("wrote");
		free(block);
		other = foreign();
		same += other == block;
		free(other);
	}
	block = make_node();
	answer("block", (long)block);
	stage("begun");
	other = realloc(block, 1 << 20);
	scribble(other, 100); /* in a block of main() */
	free(other);
	answer("same", same);
	stage("done");
	return 0;
}
