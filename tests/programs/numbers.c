// build: -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * numbers [PROCESSES [CALLS]]: in each of several processes, on one CPU, CALLS calls of each number
 * that no kernel has: all fail. Stages: `ready`, `first` (half of the processes have ended), `done`.
 */
#include <sched.h>
#include <sys/wait.h>

#include "answers.h"

#define FIRST 500
#define LAST 949 /* from 960 on, kwatch has numbers of its own */

static long calls;

static void call_all(void)
{
	for (long i = 0; i < calls; i++)
		for (long number = FIRST; number <= LAST; number++)
			if (syscall(number) != -1)
				_exit(113);
	_exit(0);
}

static void run(long processes)
{
	for (long i = 0; i < processes; i++)
		if (fork() == 0)
			call_all();
	while (wait(NULL) > 0)
		;
}

int main(int argc, char **argv)
{
	long processes = number(argc, argv, 1, 4);
	cpu_set_t one;

	calls = number(argc, argv, 2, 103);
	parse_now(argc, argv);
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	stage("ready");
	run(processes / 2);
	stage("first");
	run(processes - processes / 2);
	answer("each", calls * (LAST - FIRST + 1));
	answer("processes", processes);
	stage("done");
	return 0;
}
