// build: -O1 -g -pthread -fno-builtin
// SPDX-License-Identifier: Apache-2.0
/* pairs THREADS PAIRS: each thread allocates and frees so many blocks, as fast as it can. */
#include "together.h"

static long pairs;

static void allocate_and_free(void)
{
	for (long i = 0; i < pairs; i++)
		free(malloc(32 + i % 64));
}

int main(int argc, char **argv)
{
	long threads = number(argc, argv, 1, 16);

	pairs = number(argc, argv, 2, 10007);
	parse_now(argc, argv);
	work_together(threads, allocate_and_free);
	answer("pairs", threads * pairs);
	stage("done");
	return 0;
}
