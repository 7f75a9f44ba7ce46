// build: -O1 -g -pthread -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * loses BLOCKS HOW: keeps a chain of blocks, loses BLOCKS others, and ends: return, _exit, thread
 * (exit in a thread, while the main thread and another one wait), kill, term, segv, wait (until a
 * signal ends it), or exec (makes an exec of itself with `wait`, and loses as many again).
 */
#include <pthread.h>
#include <signal.h>

#include "answers.h"

#define KEPT 7
#define LOST_SIZE 1013

struct kept {
	struct kept *next;
	char data[90];
};

static struct kept *chain;
static void *volatile sink;

NOINLINE static void keep(void)
{
	struct kept *block = malloc(sizeof(*block));

	block->next = chain;
	chain = block;
}

NOINLINE static void lose(void)
{
	sink = malloc(LOST_SIZE);
	memset(sink, 1, LOST_SIZE);
	sink = NULL;
}

/* Overwrites what the calls before have left on the stack and in registers. */
NOINLINE static void forget(void)
{
	volatile char stack[4096];

	for (size_t i = 0; i < sizeof(stack); i++)
		stack[i] = 0;
}

static void *exit_process(void *unused)
{
	exit(0);
}

static void *wait_for_end(void *unused)
{
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	const char *how = argv[2];
	pthread_t thread;

	for (volatile int i = 0; i < KEPT; i++)
		keep();
	for (int i = 0; i < atoi(argv[1]); i++)
		lose();
	forget();
	if (!strcmp(how, "_exit"))
		_exit(0);
	if (!strcmp(how, "thread")) {
		if (pthread_create(&thread, NULL, wait_for_end, NULL) ||
		    pthread_create(&thread, NULL, exit_process, NULL))
			return 1;
		wait_for_end(NULL);
	}
	if (!strcmp(how, "kill"))
		kill(getpid(), SIGKILL);
	if (!strcmp(how, "term"))
		kill(getpid(), SIGTERM);
	if (!strcmp(how, "segv"))
		raise(SIGSEGV);
	if (!strcmp(how, "exec"))
		execl("/proc/self/exe", argv[0], argv[1], "wait", (char *)NULL);
	if (!strcmp(how, "wait")) {
		answer("pid", getpid());
		wait_for_end(NULL);
	}
	return 0;
}
