// build: -O1 -g -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * load THREADS: allocates, fills, checks and frees blocks and makes system calls until the second
 * byte comes. `wrong` counts blocks whose contents have changed.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "answers.h"

#define SLOTS 64

static atomic_bool stopping;
static atomic_long rounds, wrong;

static void *work(void *argument)
{
	unsigned char *blocks[SLOTS] = {0};
	size_t sizes[SLOTS] = {0};

	for (long i = 0; !stopping; i++) {
		int slot = (i * 7 + (long)argument) % SLOTS;

		for (size_t j = 0; blocks[slot] && j < sizes[slot]; j++)
			wrong += blocks[slot][j] != (unsigned char)slot;
		free(blocks[slot]);
		sizes[slot] = 16 + i % 977;
		blocks[slot] = malloc(sizes[slot]);
		memset(blocks[slot], slot, sizes[slot]);
		getppid();
		rounds++;
	}
	for (int slot = 0; slot < SLOTS; slot++)
		free(blocks[slot]);
	return NULL;
}

int main(int argc, char **argv)
{
	long threads = number(argc, argv, 1, 2);
	pthread_t ids[64];

	parse_now(argc, argv);
	stage("ready");
	for (long i = 0; i < threads; i++)
		pthread_create(&ids[i], NULL, work, (void *)i);
	wait_for_byte();
	stopping = true;
	for (long i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	answer("wrong", wrong);
	stage("done");
	return 0;
}
