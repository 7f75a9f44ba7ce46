// build: -O1 -g -fno-omit-frame-pointer -pthread -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * rate CALLS_PER_SECOND SECONDS THREADS: a steady load of getppid. Each thread makes its share of a
 * millisecond's calls, then sleeps until the next is due; when it is late it catches up, so that
 * the number of calls is exact whatever the machine does.
 */
#include <sys/syscall.h>

#include "together.h"

#define TICKS_PER_SECOND 1000L
#define NS_PER_TICK (1000000000L / TICKS_PER_SECOND)

static long calls_per_thread, ticks;

static void sleep_until(long ns)
{
	struct timespec due = {ns / 1000000000L, ns % 1000000000L};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
}

static void call_steadily(void)
{
	long done = 0, started = now_ns();

	for (long tick = 1; tick <= ticks; tick++) {
		for (; done < calls_per_thread * tick / ticks; done++)
			syscall(SYS_getppid);
		sleep_until(started + tick * NS_PER_TICK);
	}
}

int main(int argc, char **argv)
{
	long rate = number(argc, argv, 1, 100000), seconds = number(argc, argv, 2, 1);
	long threads = number(argc, argv, 3, 1);

	parse_now(argc, argv);
	ticks = seconds * TICKS_PER_SECOND;
	calls_per_thread = rate * seconds / threads;
	work_together(threads, call_steadily);
	answer("getppid", threads * calls_per_thread);
	answer("clock_nanosleep", threads * ticks);
	stage("done");
	return 0;
}
