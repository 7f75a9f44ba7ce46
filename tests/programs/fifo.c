// build: -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * Opens the FIFOs that are its arguments one after the other, each of which has to wait for a writer.
 * SIGUSR1 interrupts that; its handler makes a call with a path, too, and the kernel opens again.
 */
#include <fcntl.h>
#include <signal.h>

#include "answers.h"

static void handle(int signal)
{
	(void)signal;
	access("/in/the/handler", F_OK);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};

	sigaction(SIGUSR1, &action, NULL);
	stage("ready");
	for (int i = 1; i < argc; i++)
		if (open(argv[i], O_RDONLY) < 0)
			return 1;
	stage("done");
	return 0;
}
