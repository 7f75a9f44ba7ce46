// build: -O1 -g
// SPDX-License-Identifier: Apache-2.0
/*
 * lost_before BEFORE SINCE: keeps a chain of 1,000 blocks and loses BEFORE blocks; then it is
 * `ready`. It loses SINCE more, and a child of it waits: `forked`, `done`.
 */
#include "blocks.h"

#define KEPT 1000
#define SIZE 200

struct kept {
	struct kept *next;
	char data[SIZE - sizeof(struct kept *)];
};

static struct kept *chain;

static void keep(void)
{
	struct kept *block = calloc(1, sizeof(*block));

	block->next = chain;
	chain = block;
}

NOINLINE static void lose(int blocks)
{
	for (int i = 0; i < blocks; i++)
		(void)!cleared(malloc(SIZE), SIZE);
}

int main(int argc, char **argv)
{
	int orders[2];
	pid_t pid;
	char byte;

	for (int i = 0; i < KEPT; i++)
		keep();
	lose(number(argc, argv, 1, 0));
	forget();
	stage("ready");
	lose(number(argc, argv, 2, 0));
	forget();
	if (pipe(orders) || (pid = fork()) < 0)
		return 1;
	if (pid == 0) {
		close(orders[1]);
		return read(orders[0], &byte, 1) != 0;
	}
	answer("child", pid);
	stage("forked");
	stage("done");
	return 0;
}
