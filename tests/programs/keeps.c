// build: -O1 -g -fno-builtin -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * keeps THREADS KEPT PAIRS: each thread keeps so many blocks, and meanwhile allocates and frees so many
 * others for each of them. The threads exist before `ready` and wait after `done`.
 */
#include <pthread.h>

#include "answers.h"

static pthread_barrier_t begin, end;
static long kept, pairs;
static void *volatile sink;

static void *work(void *unused)
{
	pthread_barrier_wait(&begin);
	for (long i = 0; i < kept; i++) {
		sink = malloc(61);
		for (long j = 0; j < pairs; j++)
			free(malloc(32 + j % 64));
	}
	pthread_barrier_wait(&end);
	for (;;)
		pause();
	return unused;
}

int main(int argc, char **argv)
{
	long threads = number(argc, argv, 1, 2);

	kept = number(argc, argv, 2, 1009);
	pairs = number(argc, argv, 3, 3);
	parse_now(argc, argv);
	pthread_barrier_init(&begin, NULL, threads + 1);
	pthread_barrier_init(&end, NULL, threads + 1);
	for (long i = 0; i < threads; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, work, NULL))
			return 1;
	}
	stage("ready");
	pthread_barrier_wait(&begin);
	pthread_barrier_wait(&end);
	answer("kept", threads * kept);
	answer("pairs", threads * kept * pairs);
	stage("done");
	return 0;
}
