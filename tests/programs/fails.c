// build: -O1 -g -pthread -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/* Calls that fail, in numbers that are primes, in two threads. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "answers.h"

#define OFTEN 1009
#define SELDOM 13
#define CLOSES 7
#define OF_THREAD 101

static void *in_thread(void *unused)
{
	for (int i = 0; i < OF_THREAD; i++)
		open("/nonexistent/often", O_RDONLY);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	int good;

	parse_now(argc, argv);
	stage("ready");
	for (int i = 0; i < OFTEN; i++)
		open("/nonexistent/often", O_RDONLY);
	for (int i = 0; i < SELDOM; i++)
		open("/nonexistent/seldom", O_RDONLY);
	for (int i = 0; i < CLOSES; i++)
		syscall(SYS_close, 1000 + i);
	good = open("/dev/null", O_RDONLY);
	if (good < 0 || close(good))
		return 1;
	if (pthread_create(&thread, NULL, in_thread, NULL) || pthread_join(thread, NULL))
		return 1;
	answer("often", OFTEN + OF_THREAD);
	answer("seldom", SELDOM);
	answer("closes", CLOSES);
	answer("of_thread", OF_THREAD);
	stage("done");
	return 0;
}
