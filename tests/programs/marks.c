// build: -O1 -g -fno-omit-frame-pointer
// SPDX-License-Identifier: Apache-2.0
/*
 * Rounds of allocations. Each keeps some blocks, loses others, frees some of an earlier round and
 * allocates more that it frees again. `lets_go` of the blocks of the round before are freed. With
 * a number as argument it begins at this round: round 3 forks, round 4 runs the program anew.
 */
#include <signal.h>
#include <sys/prctl.h>

#include "answers.h"

#define MAX_KEPT 64
#define PAIRS 1009
#define FORKS 3
#define EXECS 4
#define CHILD_KEEPS 11
#define CHILD_SIZE 41

static void *kept[MAX_KEPT];
static void *volatile sink;
static int before, count;

NOINLINE static void keep(int size)
{
	kept[count++] = malloc(size);
}

NOINLINE static void lose(int size)
{
	sink = malloc(size);
	memset(sink, 0, size);
	sink = NULL;
}

NOINLINE static void pass(int size)
{
	sink = malloc(size);
	free(sink);
	sink = NULL;
}

NOINLINE static void release(int number)
{
	for (int i = before; i < before + number; i++) {
		free(kept[i]);
		kept[i] = NULL;
	}
}

static void allocate(int keeps, int loses, int size)
{
	for (int i = 0; i < keeps; i++)
		keep(size);
	for (int i = 0; i < loses; i++)
		lose(size);
	for (int i = 0; i < PAIRS; i++)
		pass(size);
	answer("kept", keeps);
	answer("lost", loses);
	answer("bytes", (keeps + loses) * size);
}

static void child(int orders, int reports)
{
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (read(orders, &byte, 1) != 1)
		_exit(1);
	for (int i = 0; i < CHILD_KEEPS; i++)
		keep(CHILD_SIZE);
	if (write(reports, &byte, 1) != 1)
		_exit(1);
	pause();
	_exit(0);
}

/* The child allocates after the stage `forked`. */
static void run_child(void)
{
	int orders[2], reports[2], pid;
	char byte = 0;

	if (pipe(orders) || pipe(reports))
		_exit(112);
	pid = fork();
	if (pid == 0)
		child(orders[0], reports[1]);
	answer("child", pid);
	stage("forked");
	if (write(orders[1], &byte, 1) != 1 || read(reports[0], &byte, 1) != 1)
		_exit(112);
	answer("child_blocks", CHILD_KEEPS);
	answer("child_bytes", CHILD_KEEPS * CHILD_SIZE);
}

int main(int argc, char **argv)
{
	char next[16];

	stage("ready");
	for (int round = number(argc, argv, 1, 1); round <= EXECS; round++) {
		int start = count;

		if (round == EXECS && argc == 1) {
			snprintf(next, sizeof(next), "%d", round);
			execl("/proc/self/exe", argv[0], next, NULL);
			return 1;
		}
		release(round == 1 || argc > 1 ? 0 : 2);
		allocate(5 + round, 2 + round, 100 + round);
		before = start;
		if (round == FORKS)
			run_child();
		stage("done");
	}
	return 0;
}
