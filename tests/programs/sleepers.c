// build: -O1 -g -pthread
// SPDX-License-Identifier: Apache-2.0
/* Loses one block of 200 bytes while threads wait. Argument: how many (20). */
#include <pthread.h>

#include "blocks.h"

static void *wait_for_ever(void *argument)
{
	pause();
	return argument;
}

NOINLINE static void lose(void)
{
	(void)!BLOCK("lost", 200, DEFINITE);
}

int main(int argc, char **argv)
{
	long threads = number(argc, argv, 1, 20);
	pthread_attr_t small;

	parse_now(argc, argv);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 1 << 16);
	lose();
	forget();
	for (long i = 0; i < threads; i++) {
		pthread_t thread;

		if (pthread_create(&thread, &small, wait_for_ever, NULL))
			return 1;
	}
	stage("ready");
	stage("done");
	return 0;
}
