// build: -O1 -g
// SPDX-License-Identifier: Apache-2.0
/*
 * Forks children that end at once, twenty at a time, then leaks and ends while kwatch still has to
 * report them all. Argument: the number of children.
 */
#include <sys/wait.h>

#include "answers.h"

#define AT_ONCE 20
#define LEAKED 101
#define SIZE 1009

NOINLINE static void leak_at_the_end(void)
{
	static void *volatile sink;

	for (int i = 0; i < LEAKED; i++)
		sink = malloc(SIZE);
	(void)sink;
}

int main(int argc, char **argv)
{
	long children = number(argc, argv, 1, 0);

	for (long i = 0; i < children; i++) {
		if (!fork())
			_exit(0);
		while (i % AT_ONCE == AT_ONCE - 1 && wait(NULL) > 0)
			;
	}
	while (wait(NULL) > 0)
		;
	leak_at_the_end();
	answer("live_blocks", LEAKED);
	return 0;
}
