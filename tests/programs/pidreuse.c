// build: -O1 -g -fno-omit-frame-pointer
// SPDX-License-Identifier: Apache-2.0
/*
 * Two children, one after the other, with the same pid: the second requests it (clone3, set_tid).
 * Stages: `ready`, `first` and `second` (that child exists and waits), `done` (both have ended).
 */
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "answers.h"

#define FIRST_BLOCKS 101
#define FIRST_CALLS 7001
#define SECOND_BLOCKS 13
#define SECOND_CALLS 503
#define SIZE 88

static void *volatile sink;

static pid_t child_of_pid(pid_t pid)
{
	struct clone_args arguments = {
		.exit_signal = SIGCHLD,
		.set_tid = pid ? (uintptr_t)&pid : 0,
		.set_tid_size = pid != 0,
	};

	return syscall(SYS_clone3, &arguments, sizeof(arguments));
}

static long hundredths(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * 100 + now.tv_nsec / 10000000;
}

/* Start times have a resolution of 10 ms: after this the next child has a later one. */
static void wait_for_tick(void)
{
	long before = hundredths();

	while (hundredths() == before)
		;
}

/* Runs one child to its end; it starts to work when the pipe is closed. */
static pid_t live(pid_t wanted, const char *name, int blocks, int calls)
{
	int orders[2];
	char byte;
	pid_t pid;

	if (pipe(orders) || (pid = child_of_pid(wanted)) < 0)
		_exit(113);
	if (pid == 0) {
		close(orders[1]);
		if (read(orders[0], &byte, 1))
			_exit(114);
		while (blocks--)
			sink = malloc(SIZE);
		while (calls--)
			syscall(SYS_getppid);
		_exit(0);
	}
	answer("pid", pid);
	close(orders[0]);
	stage(name);
	close(orders[1]);
	if (waitpid(pid, NULL, 0) != pid)
		_exit(115);
	return pid;
}

int main(int argc, char **argv)
{
	pid_t pid;

	parse_now(argc, argv);
	stage("ready");
	pid = live(0, "first", FIRST_BLOCKS, FIRST_CALLS);
	wait_for_tick();
	live(pid, "second", SECOND_BLOCKS, SECOND_CALLS);
	answer("first_blocks", FIRST_BLOCKS);
	answer("first_calls", FIRST_CALLS);
	answer("second_blocks", SECOND_BLOCKS);
	answer("second_calls", SECOND_CALLS);
	stage("done");
	return 0;
}
