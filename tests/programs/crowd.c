// build: -O1 -g -pthread -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * crowd ROUNDS THREADS [together]: in each round that many threads start, make one call, and end;
 * with `together`, none of them makes it or ends before all have started, and each keeps a block.
 */
#include <pthread.h>
#include <sys/syscall.h>

#include "answers.h"

static pthread_barrier_t all;
static void **kept;

static void *call_once(void *number)
{
	if (kept) {
		pthread_barrier_wait(&all);
		kept[(long)number] = malloc(64);
	}
	syscall(SYS_getppid);
	if (kept)
		pthread_barrier_wait(&all);
	return NULL;
}

int main(int argc, char **argv)
{
	long rounds = number(argc, argv, 1, 100), threads = number(argc, argv, 2, 100);
	pthread_t started[threads];
	pthread_attr_t small;

	parse_now(argc, argv);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 1 << 15);
	if (argc > 3 && !strcmp(argv[3], "together")) {
		pthread_barrier_init(&all, NULL, threads);
		kept = calloc(threads, sizeof(*kept));
	}
	stage("ready");
	for (long round = 0; round < rounds; round++) {
		for (long i = 0; i < threads; i++) {
			if (pthread_create(&started[i], &small, call_once, (void *)i))
				return 1;
		}
		for (long i = 0; i < threads; i++)
			pthread_join(started[i], NULL);
	}
	answer("getppid", rounds * threads);
	stage("done");
	return 0;
}
