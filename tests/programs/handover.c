// build: -O1 -g -foptimize-sibling-calls -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * handover [WRAPPED]: one thread allocates a block, another frees it before the next allocation,
 * which gets the same address. Allocations go through a wrapper. The first WRAPPED frees (default:
 * all) go through one of two wrappers in turn. The wrappers end with a jump.
 */
#include <pthread.h>
#include <semaphore.h>

#include "answers.h"

#define BLOCKS 1009
#define SIZE 2003

static sem_t full, empty;
static long wrapped;
static void *volatile slot;

NOINLINE void *pool_malloc(size_t size)
{
	return malloc(size);
}

NOINLINE void pool_free(void *block)
{
	free(block);
}

NOINLINE void *pool_other_malloc(size_t size)
{
	return malloc(size);
}

NOINLINE void pool_other_free(void *block)
{
	free(block);
}

static void *consume(void *unused)
{
	for (int i = 0; i < BLOCKS; i++) {
		sem_wait(&full);
		if (i < wrapped && i % 2)
			pool_other_free(slot);
		else if (i < wrapped)
			pool_free(slot);
		else
			free(slot);
		sem_post(&empty);
	}
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t consumer;

	wrapped = number(argc, argv, 1, BLOCKS);
	parse_now(argc, argv);
	sem_init(&full, 0, 0);
	sem_init(&empty, 0, 1);
	if (pthread_create(&consumer, NULL, consume, NULL))
		return 1;
	stage("ready");
	for (int i = 0; i < BLOCKS; i++) {
		sem_wait(&empty);
		slot = i % 2 ? pool_other_malloc(SIZE) : pool_malloc(SIZE);
		sem_post(&full);
	}
	pthread_join(consumer, NULL);
	answer("allocs", BLOCKS);
	answer("frees", BLOCKS);
	answer("live_blocks", 0);
	stage("done");
	return 0;
}
