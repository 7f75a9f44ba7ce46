// build: -O1 -g -fno-omit-frame-pointer -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * remaps [TIMES]: maps and unmaps code on one CPU. Each round produces a record or two in the
 * control ring.
 */
#include <sched.h>
#include <sys/mman.h>

#include "answers.h"

#define SIZE 4096

static void stay_on_one_cpu(void)
{
	cpu_set_t cpus;
	int cpu = sched_getcpu();

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (cpu < 0 || sched_setaffinity(0, sizeof(cpus), &cpus))
		_exit(113);
}

int main(int argc, char **argv)
{
	long times = number(argc, argv, 1, 30011);

	parse_now(argc, argv);
	stay_on_one_cpu();
	stage("ready");
	while (times--) {
		void *code = mmap(NULL, SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (code == MAP_FAILED || munmap(code, SIZE))
			_exit(114);
	}
	stage("done");
	return 0;
}
