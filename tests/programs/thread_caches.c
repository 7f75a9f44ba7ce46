// build: -g -O0 -pthread
/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that end, one after another, with blocks that they have freed in glibc's caches. */
#include <pthread.h>

#include "answers.h"

enum { THREADS = 3, BLOCKS = 19 };

static void *fill_cache(void *unused)
{
	void *blocks[BLOCKS];

	for (int i = 0; i < BLOCKS; i++)
		blocks[i] = malloc(24 + 16 * i);
	for (int i = 0; i < BLOCKS; i++)
		free(blocks[i]);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	parse_now(argc, argv);
	stage("ready");
	for (int i = 0; i < THREADS; i++)
		if (!pthread_create(&thread, NULL, fill_cache, NULL))
			pthread_join(thread, NULL);
	answer("cached", THREADS * BLOCKS);
	stage("done");
	return 0;
}
