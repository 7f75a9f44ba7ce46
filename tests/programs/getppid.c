// build: -O1 -g -fno-omit-frame-pointer -pthread -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/* getppid [THREADS [CALLS]]: each thread makes CALLS calls as fast as it can. */
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

#include "answers.h"

static pthread_barrier_t begin, end;
static long calls;

static void *worker(void *unused)
{
	pthread_barrier_wait(&begin);
	for (long i = 0; i < calls; i++)
		syscall(SYS_getppid);
	pthread_barrier_wait(&end);
	return unused;
}

static long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

int main(int argc, char **argv)
{
	long threads = number(argc, argv, 1, 2), started;

	calls = number(argc, argv, 2, 100003);
	parse_now(argc, argv);
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
	answer("threads", threads);
	answer("getppid", threads * calls);
	stage("done");
	return 0;
}
