// build: -O1 -g -fno-omit-frame-pointer -pthread -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * rate CALLS_PER_SECOND SECONDS THREADS: a steady load of getppid. Each thread makes its share of a
 * millisecond's calls, then sleeps until the next is due; when it is late it catches up, so that
 * the number of calls is exact whatever the machine does.
 */
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

#include "answers.h"

#define TICKS_PER_SECOND 1000L
#define NS_PER_TICK (1000000000L / TICKS_PER_SECOND)

static pthread_barrier_t begin, end;
static long calls_per_thread, ticks;

static long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

static void sleep_until(long ns)
{
	struct timespec due = {ns / 1000000000L, ns % 1000000000L};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
}

static void *worker(void *unused)
{
	long done = 0, started;

	pthread_barrier_wait(&begin);
	started = now_ns();
	for (long tick = 1; tick <= ticks; tick++) {
		for (; done < calls_per_thread * tick / ticks; done++)
			syscall(SYS_getppid);
		sleep_until(started + tick * NS_PER_TICK);
	}
	pthread_barrier_wait(&end);
	return unused;
}

int main(int argc, char **argv)
{
	long rate = number(argc, argv, 1, 100000), seconds = number(argc, argv, 2, 1);
	long threads = number(argc, argv, 3, 1), started;

	parse_now(argc, argv);
	ticks = seconds * TICKS_PER_SECOND;
	calls_per_thread = rate * seconds / threads;
	pthread_barrier_init(&begin, NULL, threads + 1);
	pthread_barrier_init(&end, NULL, threads + 1);
	for (long i = 0; i < threads; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, worker, NULL))
			return 1;
		pthread_detach(thread);
	}
	stage("ready");
	started = now_ns();
	pthread_barrier_wait(&begin);
	pthread_barrier_wait(&end);
	answer("elapsed_ns", now_ns() - started);
	answer("getppid", threads * calls_per_thread);
	answer("clock_nanosleep", threads * ticks);
	stage("done");
	return 0;
}
