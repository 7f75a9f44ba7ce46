// build: -O1 -g -fno-omit-frame-pointer -pthread -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/* getppid [THREADS [CALLS]]: each thread makes CALLS calls as fast as it can. */
#include <sys/syscall.h>

#include "together.h"

static long calls;

static void call(void)
{
	for (long i = 0; i < calls; i++)
		syscall(SYS_getppid);
}

int main(int argc, char **argv)
{
	long threads = number(argc, argv, 1, 2);

	calls = number(argc, argv, 2, 100003);
	parse_now(argc, argv);
	work_together(threads, call);
	answer("threads", threads);
	answer("getppid", threads * calls);
	stage("done");
	return 0;
}
