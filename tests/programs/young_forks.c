// build: -O1 -g -fno-builtin
// SPDX-License-Identifier: Apache-2.0
/*
 * A parent allocates blocks, forks and frees them at once, so that they are young at the fork. The
 * child frees some of its copies. Stages: `ready`, `forked` (the child waits), `done`.
 */
#include <sys/wait.h>

#include "answers.h"
#include "orders.h"

#define INHERITED 1009
#define SIZE 211
#define CHILD_FREES 500

static void *blocks[INHERITED];

static void free_first(int count)
{
	for (int i = 0; i < count; i++)
		free(blocks[i]);
}

int main(int argc, char **argv)
{
	int orders[2], reports[2];
	pid_t pid;

	parse_now(argc, argv);
	if (pipe(orders) || pipe(reports))
		return 1;
	stage("ready");
	for (int i = 0; i < INHERITED; i++)
		blocks[i] = malloc(SIZE);
	pid = fork();
	if (pid < 0)
		return 1;
	if (pid == 0) {
		close(orders[1]);
		hear(orders[0]);
		free_first(CHILD_FREES);
		tell(reports[1]);
		hear(orders[0]);
		_exit(0);
	}
	free_first(INHERITED);
	answer("child", pid);
	stage("forked");
	tell(orders[1]);
	hear(reports[0]);
	answer("parent_frees", INHERITED);
	answer("parent_live_blocks", 0);
	answer("parent_live_bytes", 0);
	answer("child_frees", CHILD_FREES);
	answer("child_live_blocks", INHERITED - CHILD_FREES);
	answer("child_live_bytes", (INHERITED - CHILD_FREES) * SIZE);
	stage("done");
	close(orders[1]);
	waitpid(pid, NULL, 0);
	return 0;
}
