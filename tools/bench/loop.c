// SPDX-License-Identifier: Apache-2.0
/*
 * The loops that are measured. Reads lines `pairs MS`, `getppid MS` and `hold BLOCKS` from stdin
 * and answers each with `count` and `ns`, then `done`. Allocates nothing but what it is asked for.
 */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>

#include "answers.h"

#define BATCH 1000 /* operations between two looks at the clock */

struct block {
	struct block *previous;
};

static struct block *held;
static void *volatile sink;

static long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

NOINLINE static void pairs(void)
{
	for (long i = 0; i < BATCH; i++) {
		sink = malloc(16 + i % 1009);
		free(sink);
	}
}

NOINLINE static void getppids(void)
{
	for (long i = 0; i < BATCH; i++)
		syscall(SYS_getppid);
}

NOINLINE static void hold(long blocks)
{
	for (long i = 0; i < blocks; i++) {
		struct block *block = malloc(24 + i % 41);

		block->previous = held;
		held = block;
	}
}

/* Runs batches until the time is over: how many operations that were. */
NOINLINE static long repeat(void (*batch)(void), long ms)
{
	long count = 0, until = now_ns() + ms * 1000000L;

	for (; now_ns() < until; count += BATCH)
		batch();
	return count;
}

static void run(const char *what, long amount)
{
	long started = now_ns(), count = amount;

	if (strcmp(what, "pairs") == 0)
		count = repeat(pairs, amount);
	else if (strcmp(what, "getppid") == 0)
		count = repeat(getppids, amount);
	else
		hold(amount);
	answer("ns", now_ns() - started);
	answer("count", count);
	say("done\n", 5);
}

int main(void)
{
	char line[64], what[16];
	ssize_t length;
	long amount;

	say("ready\n", 6);
	while ((length = read(STDIN_FILENO, line, sizeof(line) - 1)) > 0) {
		line[length] = '\0';
		if (sscanf(line, "%15s %ld", what, &amount) == 2)
			run(what, amount);
	}
	return 0;
}
