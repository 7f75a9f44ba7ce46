// build: -O1 -g
// SPDX-License-Identifier: Apache-2.0
/*
 * A server of one thread: it asks for the file of each request, which is not there, and allocates. It
 * keeps a block of every request for /requests/report, and releases all others.
 */
#include <unistd.h>

#include "answers.h"

#define REQUESTS 211
#define EVERY 7

static void *volatile kept;

NOINLINE static void *build_report(void)
{
	return malloc(1000);
}

NOINLINE static void handle(int number)
{
	char name[40];
	void *page;

	snprintf(name, sizeof(name), number % EVERY ? "/requests/page%d" : "/requests/report", number);
	access(name, F_OK);
	page = malloc(5000);
	if (number % EVERY == 0)
		kept = build_report();
	free(page);
}

int main(int argc, char **argv)
{
	parse_now(argc, argv);
	stage("ready");
	for (int i = 0; i < REQUESTS; i++)
		handle(i);
	answer("reports", (REQUESTS + EVERY - 1) / EVERY);
	answer("requests", REQUESTS);
	stage("done");
	return 0;
}
