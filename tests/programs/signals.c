// build: -O1 -g
// SPDX-License-Identifier: Apache-2.0
/*
 * signals FILE [leave]: appends the name of each SIGINT, SIGTERM and SIGHUP that it gets to FILE,
 * which begins with its pid, and ends with status 7 at SIGUSR1. With `leave` in a process group of
 * its own.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int file;

static void note(int number)
{
	const char *name = number == SIGINT ? "INT\n" : number == SIGTERM ? "TERM\n" : "HUP\n";

	if (number == SIGUSR1)
		_exit(7);
	if (write(file, name, strlen(name)) < 0)
		_exit(113);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = note };
	sigset_t none;
	char line[32];

	file = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (argc > 2)
		setpgid(0, 0);
	sigemptyset(&none);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	if (write(file, line, snprintf(line, sizeof(line), "%d\n", getpid())) < 0)
		return 114;
	for (;;)
		sigsuspend(&none);
}
