// build: -O1 -g -fno-omit-frame-pointer -fsanitize=leak
// SPDX-License-Identifier: Apache-2.0
/*
 * Leaks blocks under LSan, which finds the leak at the end and suppresses it by the name of the caller
 * of malloc: the program then exits with 0, otherwise with LSan's 23.
 */
#include "answers.h"

#define BLOCKS 13
#define SIZE 1201

static void *volatile sink;

const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
	return "leak:leak_on_purpose\n";
}

NOINLINE static void leak_on_purpose(void)
{
	for (int i = 0; i < BLOCKS; i++)
		sink = malloc(SIZE);
	sink = NULL;
}

int main(int argc, char **argv)
{
	parse_now(argc, argv);
	stage("ready");
	leak_on_purpose();
	answer("live_blocks", BLOCKS);
	answer("live_bytes", BLOCKS * SIZE);
	stage("done");
	return 0;
}
