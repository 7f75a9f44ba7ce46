// build: -O1 -g -fno-omit-frame-pointer -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Eight threads allocate and free at once. Each leaks a few blocks and frees blocks that its
 * neighbour allocated. The threads exist before `ready` and end after `done`.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "answers.h"

#define THREADS 8
#define PAIRS 10007
#define PASSED 503
#define LEAKED 17
#define LEAKED_SIZE(thread) (2003 + (thread))

static pthread_barrier_t begin, end, leave;
static _Atomic(void *) queues[THREADS][PASSED];

NOINLINE static void balanced(int i)
{
	void *volatile block = malloc(16 + i % 1511);

	free(block);
}

NOINLINE static void leak_in_thread(int thread)
{
	void *volatile block = malloc(LEAKED_SIZE(thread));

	(void)block;
}

NOINLINE static void pass_on(int thread, int i)
{
	atomic_store(&queues[thread][i], malloc(3001 + i));
}

NOINLINE static void free_from(int thread, int i)
{
	void *block;

	while (!(block = atomic_load(&queues[thread][i])))
		sched_yield();
	free(block);
}

static void *worker(void *argument)
{
	int thread = (int)(long)argument;

	pthread_barrier_wait(&begin);
	for (int i = 0; i < PAIRS; i++) {
		balanced(i);
		if (i < PASSED) {
			pass_on(thread, i);
			free_from((thread + 1) % THREADS, i);
		}
		if (i < LEAKED)
			leak_in_thread(thread);
	}
	pthread_barrier_wait(&end);
	pthread_barrier_wait(&leave);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	long live_bytes = 0;

	parse_now(argc, argv);
	pthread_barrier_init(&begin, NULL, THREADS + 1);
	pthread_barrier_init(&end, NULL, THREADS + 1);
	pthread_barrier_init(&leave, NULL, THREADS + 1);
	for (long i = 0; i < THREADS; i++) {
		pthread_create(&threads[i], NULL, worker, (void *)i);
		live_bytes += LEAKED * LEAKED_SIZE(i);
	}
	stage("ready");
	pthread_barrier_wait(&begin);
	pthread_barrier_wait(&end);
	answer("threads", THREADS);
	answer("mallocs", THREADS * (PAIRS + PASSED + LEAKED));
	answer("frees", THREADS * (PAIRS + PASSED));
	answer("live_blocks", THREADS * LEAKED);
	answer("live_bytes", live_bytes);
	stage("done");
	pthread_barrier_wait(&leave);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
