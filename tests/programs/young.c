// build: -O1 -g -fno-builtin -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Blocks that live for a moment, or are young when something happens. Stages: `ready`, `held` (some
 * blocks have just been allocated), `ended` (threads have ended right after they leaked), `done`.
 */
#include <pthread.h>
#include <semaphore.h>

#include "answers.h"

#define PAIRS 10007
#define HELD 31
#define THREADS 5
#define LEAKED 7
#define EXCHANGED 5003
#define SIZE 1013
#define LEAKED_SIZE 2003
#define EXCHANGED_SIZE 487

static void *blocks[HELD];
static void *volatile sink, *volatile slot;
static sem_t given, taken;

NOINLINE static void balanced(int i)
{
	void *volatile block = malloc(16 + i % 257);

	free(block);
}

NOINLINE static void hold(void)
{
	for (int i = 0; i < HELD; i++)
		blocks[i] = malloc(SIZE);
}

NOINLINE static void leak_in_thread(void)
{
	for (int i = 0; i < LEAKED; i++)
		sink = malloc(LEAKED_SIZE);
}

static void *leak_and_end(void *unused)
{
	leak_in_thread();
	return unused;
}

/* Frees what the main thread has allocated, and allocates what it frees: at the same address. */
static void *exchange(void *unused)
{
	for (int i = 0; i < EXCHANGED; i++) {
		sem_wait(&given);
		free(slot);
		slot = malloc(EXCHANGED_SIZE);
		sem_post(&taken);
	}
	return unused;
}

static void run(void *(*work)(void *), int threads)
{
	pthread_t started[THREADS];

	for (int i = 0; i < threads; i++)
		if (pthread_create(&started[i], NULL, work, NULL))
			_exit(113);
	for (int i = 0; i < EXCHANGED && work == exchange; i++) {
		slot = malloc(EXCHANGED_SIZE);
		sem_post(&given);
		sem_wait(&taken);
		free(slot);
	}
	for (int i = 0; i < threads; i++)
		pthread_join(started[i], NULL);
}

int main(int argc, char **argv)
{
	parse_now(argc, argv);
	sem_init(&given, 0, 0);
	sem_init(&taken, 0, 0);
	stage("ready");
	for (int i = 0; i < PAIRS; i++)
		balanced(i);
	hold();
	answer("pairs", PAIRS);
	answer("held_blocks", HELD);
	answer("held_bytes", HELD * SIZE);
	stage("held");
	run(leak_and_end, THREADS);
	answer("leaked_blocks", THREADS * LEAKED);
	answer("leaked_bytes", THREADS * LEAKED * LEAKED_SIZE);
	stage("ended");
	run(exchange, 1);
	for (int i = 0; i < HELD; i++)
		free(blocks[i]);
	answer("exchanged", 2 * EXCHANGED);
	stage("done");
	return 0;
}
