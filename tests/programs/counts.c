// build: -O1 -g
// SPDX-License-Identifier: Apache-2.0
/* Counts the real-time signals that it gets while it waits for the byte: the answer `signals`. */
#include <signal.h>

#include "answers.h"

static volatile long signals;

static void count(int number)
{
	(void)number;
	signals++;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};

	parse_now(argc, argv);
	sigaction(SIGRTMIN, &action, NULL);
	stage("ready");
	answer("signals", signals);
	stage("done");
	return 0;
}
