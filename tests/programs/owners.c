// build: -O2 -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Calls getpgid(0) 3 times as root, 5 times as user 1234, 7 times after a stage in which it can be
 * moved to another control group, and 2 times in a thread that is root while the first one is not.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/syscall.h>

#include "answers.h"

static pthread_barrier_t other_user;

static void call(int times)
{
	while (times--)
		syscall(SYS_getpgid, 0);
}

static void *stay_root(void *unused)
{
	pthread_barrier_wait(&other_user);
	call(2);
	return unused;
}

/* Of this thread alone: the C library would have all of them do so. */
static void become(int user)
{
	if (syscall(SYS_setresuid, user, user, 0))
		_exit(113);
}

int main(int argc, char **argv)
{
	pthread_t thread;

	parse_now(argc, argv);
	pthread_barrier_init(&other_user, NULL, 2);
	stage("ready");
	pthread_create(&thread, NULL, stay_root, NULL);
	call(3);
	become(1234);
	call(5);
	pthread_barrier_wait(&other_user);
	pthread_join(thread, NULL);
	stage("moved");
	call(7);
	stage("done");
	return 0;
}
