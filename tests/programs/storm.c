// build: -O1 -g
// SPDX-License-Identifier: Apache-2.0
/*
 * A storm of processes that take a new name and end, and in its middle one that stays and is named
 * `eye`. Argument: how many. The messages about them are more than a netlink socket usually holds.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "answers.h"

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

		if (pid == 0)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
}

/* It exists under its name when this returns. */
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
