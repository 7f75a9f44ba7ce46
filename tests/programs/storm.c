// build: -O1 -g
// SPDX-License-Identifier: Apache-2.0
/*
 * Starts many processes that change their name, allocate and end; one in the middle, named `eye`,
 * stays.
 * Argument: the number of processes. Their messages overflow a netlink socket of default size.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "answers.h"

static void *volatile block;

static pid_t child(const char *name)
{
	pid_t pid = fork();

	if (pid < 0)
		_exit(113);
	if (pid == 0)
		prctl(PR_SET_NAME, name);
	return pid;
}

static void blow(long children)
{
	for (long i = 0; i < children; i++) {
		pid_t pid = child("gust");

		if (pid == 0) {
			block = malloc(100);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
}

/* Returns when the process has its name. */
static pid_t child_that_stays(void)
{
	int named[2];
	char byte;
	pid_t pid;

	if (pipe(named))
		_exit(113);
	pid = child("eye");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (write(named[1], "", 1) == 1)
			pause();
		_exit(0);
	}
	if (read(named[0], &byte, 1) != 1)
		_exit(114);
	return pid;
}

int main(int argc, char **argv)
{
	long children = number(argc, argv, 1, 5003);
	pid_t eye;

	parse_now(argc, argv);
	stage("ready");
	blow(children / 2);
	eye = child_that_stays();
	blow(children / 2);
	answer("eye", eye);
	stage("done");
	kill(eye, SIGKILL);
	waitpid(eye, NULL, 0);
	return 0;
}
