// build: -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * Measures a system call and two functions: under a probe the kernel emulates the first instruction
 * of one and single-steps that of the other. Prints nanoseconds per call at `native`, and again at
 * `done`; a test may attach probes in between.
 */
#include <sys/syscall.h>
#include <time.h>

#include "answers.h"

#define CALLS 20000

#if defined(__x86_64__)
__asm__(".globl emulated\n.type emulated, @function\nemulated: push %rbp\n pop %rbp\n ret\n"
	".size emulated, . - emulated\n"
	".globl stepped\n.type stepped, @function\nstepped: test %rdi, %rdi\n ret\n"
	".size stepped, . - stepped\n");
#else
__asm__(".globl emulated\n.type emulated, %function\nemulated: cbz x0, 1f\n1: ret\n"
	".size emulated, . - emulated\n"
	".globl stepped\n.type stepped, %function\nstepped: stp x29, x30, [sp, #-16]!\n"
	" ldp x29, x30, [sp], #16\n ret\n.size stepped, . - stepped\n");
#endif

void emulated(long argument);
void stepped(long argument);

static void enter_kernel(long argument)
{
	(void)argument;
	syscall(SYS_getppid);
}

static void measure(const char *name, void (*function)(long))
{
	struct timespec begin, end;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int i = 0; i < CALLS; i++)
		function(1);
	clock_gettime(CLOCK_MONOTONIC, &end);
	answer(name, ((end.tv_sec - begin.tv_sec) * 1000000000L + end.tv_nsec - begin.tv_nsec) / CALLS);
}

static void measure_all(void)
{
	measure("getppid_ns", enter_kernel);
	measure("emulated_ns", emulated);
	measure("stepped_ns", stepped);
}

int main(int argc, char **argv)
{
	parse_now(argc, argv);
	stage("ready");
	measure_all();
	stage("native");
	measure_all();
	stage("done");
	return 0;
}
