// SPDX-License-Identifier: Apache-2.0
/*
 * The measured loops. Reads commands from stdin: `pairs MS`, `pairs12 MS` and `pairs30 MS` (12 and
 * 30 frames deep), `new30 MS` (a new stack each time), `getppid MS` and `hold BLOCKS`. Answers each
 * with `count` and `ns`, then `done`. Makes no other allocations.
 */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>

#include "answers.h"

#define BATCH 1000 /* operations between two readings of the clock */

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

/* Calls `work` below that many more frames. */
NOINLINE static void under(int frames, void (*work)(void))
{
	volatile char local[48];

	local[0] = 1;
	if (frames)
		under(frames - 1, work);
	else
		work();
	local[1] = local[0];
}

NOINLINE static void pairs_12_deep(void)
{
	under(8, pairs);
}

NOINLINE static void pairs_30_deep(void)
{
	under(26, pairs);
}

static void chain(int frames);

#define LINK(number)                          \
	NOINLINE static void link##number(int frames) \
	{                                     \
		volatile char local[16 * number]; \
                                              \
		local[0] = 1;                 \
		chain(frames - 1);            \
		local[1] = local[0];          \
	}

LINK(1) LINK(2) LINK(3) LINK(4) LINK(5) LINK(6) LINK(7) LINK(8)

/* Takes a path of calls that is almost always new. */
static void chain(int frames)
{
	static void (*const links[])(int) = { link1, link2, link3, link4,
					      link5, link6, link7, link8 };
	static unsigned mm_id = 1;

	if (!frames) {
		sink = malloc(32);
		free(sink);
		return;
	}
	mm_id = mm_id * 1103515245 + 12345;
	links[mm_id >> 16 & 7](frames - 1);
}

NOINLINE static void new_stacks(void)
{
	for (long i = 0; i < BATCH; i++)
		chain(26);
}

/* Runs batches until the time is over; returns the number of operations. */
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
	else if (strcmp(what, "pairs12") == 0)
		count = repeat(pairs_12_deep, amount);
	else if (strcmp(what, "pairs30") == 0)
		count = repeat(pairs_30_deep, amount);
	else if (strcmp(what, "new30") == 0)
		count = repeat(new_stacks, amount);
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
