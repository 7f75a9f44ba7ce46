// build: -g -O0
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frees after `ready` what a child that shares the memory has allocated, in rounds that take a
 * second together. Each time, the child gets the address that the parent has just freed.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "answers.h"

enum { ROUNDS = 23, SIZE = 3001, PAUSE_US = 50000, STACK_SIZE = 1 << 18 };

static char stack[STACK_SIZE] __attribute__((aligned(16)));
static int orders[2], reports[2];
static void *volatile box;

static void tell(int pipe)
{
	if (write(pipe, "", 1) != 1)
		_exit(113);
}

static void hear(int pipe)
{
	char byte;

	if (read(pipe, &byte, 1) != 1)
		_exit(114);
}

static int child(void *unused)
{
	for (int i = 0; i < ROUNDS; i++) {
		hear(orders[0]);
		box = malloc(SIZE);
		tell(reports[1]);
	}
	return 0;
}

int main(int argc, char **argv)
{
	long same = 0;
	pid_t pid;

	parse_now(argc, argv);
	if (pipe(orders) || pipe(reports))
		return 1;
	stage("ready");
	pid = clone(child, stack + STACK_SIZE, CLONE_VM | SIGCHLD, NULL);
	for (int i = 0; i < ROUNDS; i++) {
		void *volatile block = malloc(SIZE);

		free(block);
		tell(orders[1]);
		hear(reports[0]);
		same += box == block;
		free(box);
		usleep(PAUSE_US);
	}
	waitpid(pid, NULL, 0);
	answer("same", same);
	stage("done");
	return 0;
}
