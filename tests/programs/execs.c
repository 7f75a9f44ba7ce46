// build: -O1 -g -fno-omit-frame-pointer
// SPDX-License-Identifier: Apache-2.0
/*
 * An exec removes every block of the process. Stages: `ready`, `allocated`, `execed` (the new
 * program waits), `done`.
 */
#include "answers.h"

#define BEFORE 53
#define BEFORE_SIZE 401
#define AFTER 23
#define AFTER_SIZE 607

static void *volatile sink;

NOINLINE static void allocate_before_exec(void)
{
	for (int i = 0; i < BEFORE; i++)
		sink = malloc(BEFORE_SIZE);
}

NOINLINE static void allocate_after_exec(void)
{
	for (int i = 0; i < AFTER; i++)
		sink = malloc(AFTER_SIZE);
}

static int second_program(void)
{
	stage("execed");
	allocate_after_exec();
	answer("live_blocks", AFTER);
	answer("live_bytes", AFTER * AFTER_SIZE);
	stage("done");
	return 0;
}

int main(int argc, char **argv)
{
	parse_now(argc, argv);
	if (argc > 1 && strcmp(argv[1], "second") == 0)
		return second_program();
	stage("ready");
	allocate_before_exec();
	answer("live_blocks_before", BEFORE);
	answer("live_bytes_before", BEFORE * BEFORE_SIZE);
	stage("allocated");
	execl("/proc/self/exe", argv[0], "second", never_wait ? "now" : NULL, NULL);
	return 113;
}
