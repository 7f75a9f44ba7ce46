// build: -O1 -g -fno-omit-frame-pointer -pthread -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/* The first thread ends and stays a zombie while the other thread runs. */
#include <pthread.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "answers.h"

#define CALLS 4099
#define BLOCKS 101

static void *volatile sink;

static void *go_on(void *first)
{
	pthread_join((pthread_t)(uintptr_t)first, NULL);
	stage("ready");
	for (int i = 0; i < CALLS; i++)
		syscall(SYS_getppid);
	for (int i = 0; i < BLOCKS; i++)
		sink = malloc(1013);
	answer("getppid", CALLS);
	answer("live_blocks", BLOCKS);
	stage("done");
	_exit(0);
}

int main(int argc, char **argv)
{
	pthread_t thread;

	parse_now(argc, argv);
	if (pthread_create(&thread, NULL, go_on, (void *)(uintptr_t)pthread_self()))
		return 1;
	pthread_exit(NULL);
}
