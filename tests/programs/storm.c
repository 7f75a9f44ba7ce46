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

static pid_t child(const char *name, bool stays)
{
	pid_t pid = fork();

	if (pid < 0)
		_exit(1);
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, name);
	if (stays)
		pause();
	_exit(0);
}

static void blow(long children)
{
	for (long i = 0; i < children; i++)
		waitpid(child("gust", false), NULL, 0);
}

int main(int argc, char **argv)
{
	long children = number(argc, argv, 1, 5003);
	pid_t eye;

	parse_now(argc, argv);
	stage("ready");
	blow(children / 2);
	eye = child("eye", true);
	blow(children / 2);
	answer("eye", eye);
	stage("done");
	kill(eye, SIGKILL);
	waitpid(eye, NULL, 0);
	return 0;
}
