/* SPDX-License-Identifier: Apache-2.0 */
/* Runs work in several threads at the same time and measures it. Needs -pthread. */
#ifndef TOGETHER_H
#define TOGETHER_H

#include <pthread.h>
#include <time.h>

#include "answers.h"

static pthread_barrier_t begin, end;
static void (*work_of_each)(void);

static long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

static void *worker(void *unused)
{
	pthread_barrier_wait(&begin);
	work_of_each();
	pthread_barrier_wait(&end);
	return unused;
}

/* Starts the threads, prints `ready`, lets them work and answers `elapsed_ns`. */
static void work_together(long threads, void (*work)(void))
{
	long started;

	work_of_each = work;
	pthread_barrier_init(&begin, NULL, threads + 1);
	pthread_barrier_init(&end, NULL, threads + 1);
	for (long i = 0; i < threads; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, worker, NULL))
			_exit(113);
		pthread_detach(thread);
	}
	stage("ready");
	started = now_ns();
	pthread_barrier_wait(&begin);
	pthread_barrier_wait(&end);
	answer("elapsed_ns", now_ns() - started);
}

#endif
