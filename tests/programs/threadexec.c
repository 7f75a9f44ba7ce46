// build: -O1 -g -fno-omit-frame-pointer -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * A thread other than the main thread execs the program again; the kernel gives it the main
 * thread's place. Stages: `ready`, `execed`, `done`.
 */
#include <pthread.h>

#include "answers.h"

#define LEAKED 1009
#define SIZE 307

static char **arguments;
static void *volatile sink;

NOINLINE static void leak_after_exec(void)
{
	for (int i = 0; i < LEAKED; i++)
		sink = malloc(SIZE);
}

static void *exec_again(void *unused)
{
	char *again[] = {arguments[0], "again", NULL};

	execv("/proc/self/exe", again);
	_exit(113);
}

int main(int argc, char **argv)
{
	pthread_t thread;

	parse_now(argc, argv);
	if (argc > 1 && strcmp(argv[1], "again") == 0) {
		stage("execed");
		leak_after_exec();
		answer("live_blocks", LEAKED);
		answer("live_bytes", LEAKED * SIZE);
		stage("done");
		return 0;
	}
	arguments = argv;
	stage("ready");
	pthread_create(&thread, NULL, exec_again, NULL);
	pthread_join(thread, NULL);
	return 1;
}
