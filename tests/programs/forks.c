// build: -O1 -g -fno-omit-frame-pointer
// SPDX-License-Identifier: Apache-2.0
/*
 * A child inherits the parent's blocks, frees some of its copies and allocates its own. Stages:
 * `ready`, `forked` (the child exists and waits), `done`. The parent controls the child over a
 * pipe.
 */
#include <sys/wait.h>

#include "answers.h"
#include "orders.h"

#define INHERITED 1009
#define SIZE 211
#define CHILD_FREES 500
#define CHILD_ALLOCATES 7
#define CHILD_SIZE 307
#define PARENT_FREES 11

static void *blocks[INHERITED];
static void *volatile sink;

NOINLINE static void allocate_before_fork(void)
{
	for (int i = 0; i < INHERITED; i++)
		blocks[i] = malloc(SIZE);
}

NOINLINE static void allocate_in_child(void)
{
	for (int i = 0; i < CHILD_ALLOCATES; i++)
		sink = malloc(CHILD_SIZE);
}

static void free_first(int count)
{
	for (int i = 0; i < count; i++)
		free(blocks[i]);
}

static void child(int orders, int reports)
{
	hear(orders);
	free_first(CHILD_FREES);
	allocate_in_child();
	tell(reports);
	hear(orders);
	_exit(0);
}

int main(int argc, char **argv)
{
	int orders[2], reports[2];
	pid_t pid;

	parse_now(argc, argv);
	stage("ready");
	allocate_before_fork();
	if (pipe(orders) || pipe(reports) || (pid = fork()) < 0)
		return 1;
	if (pid == 0) {
		close(orders[1]);
		child(orders[0], reports[1]);
	}
	answer("child", pid);
	stage("forked");
	tell(orders[1]);
	hear(reports[0]);
	free_first(PARENT_FREES);
	answer("parent_live_blocks", INHERITED - PARENT_FREES);
	answer("parent_live_bytes", (INHERITED - PARENT_FREES) * SIZE);
	answer("parent_frees", PARENT_FREES);
	answer("child_live_blocks", INHERITED - CHILD_FREES + CHILD_ALLOCATES);
	answer("child_live_bytes", (INHERITED - CHILD_FREES) * SIZE + CHILD_ALLOCATES * CHILD_SIZE);
	answer("child_frees", CHILD_FREES);
	answer("child_mallocs", CHILD_ALLOCATES);
	stage("done");
	close(orders[1]);
	waitpid(pid, NULL, 0);
	return 0;
}
