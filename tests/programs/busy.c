// build: -O1 -g -fno-omit-frame-pointer -pthread -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * busy [CHILDREN [CALLS]]: children that make CALLS calls and then end in three ways: by exit, by a
 * signal, or by an exec of this program, which makes CALLS calls again in two threads each. The
 * parent makes calls meanwhile.
 */
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "together.h"

static long calls;

static void call(void)
{
	for (long i = 0; i < calls; i++)
		syscall(SYS_getppid);
}

static void *thread(void *unused)
{
	call();
	return unused;
}

static int second_program(void)
{
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, thread, NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

static void child(long which, char **argv, char *count)
{
	call();
	if (which % 3 == 0)
		execl("/proc/self/exe", argv[0], "again", count, NULL);
	if (which % 3 == 1)
		raise(SIGKILL);
	_exit(0);
}

int main(int argc, char **argv)
{
	long children = number(argc, argv, 1, 60), meanwhile = 0;
	char count[32];

	calls = number(argc, argv, 2, 1009);
	if (argc > 1 && strcmp(argv[1], "again") == 0)
		return second_program();
	parse_now(argc, argv);
	snprintf(count, sizeof(count), "%ld", calls);
	stage("ready");
	for (long i = 0; i < children; i++) {
		if (fork() == 0)
			child(i, argv, count);
		for (long j = 0; j < 101; j++, meanwhile++)
			syscall(SYS_getppid);
	}
	while (wait(NULL) > 0)
		;
	answer("children", children);
	answer("calls", calls);
	answer("parent", meanwhile);
	stage("done");
	return 0;
}
