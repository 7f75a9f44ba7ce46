// build: -O2 -g -fno-optimize-sibling-calls -ldl -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * floods LIBRARY: maps code on one CPU until the ring of a stopped tracer overflows, then opens
 * LIBRARY (passing.c, with NAME=first) and leaks blocks through it. Stages: `ready`, `opened`,
 * `leaked` repeatedly until the end of stdin, `done`.
 */
#include <dlfcn.h>
#include <sched.h>
#include <sys/mman.h>

#include "answers.h"

#define FLOOD 20000
#define ROUNDS 100
#define SIZE 5003

typedef int (*passing)(int (*)(int), int);

static void *volatile sink;
static volatile int zero;

NOINLINE static int take(int size)
{
	sink = malloc(size);
	return zero;
}

static void map_code(int times)
{
	for (int i = 0; i < times; i++) {
		void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		munmap(code, 4096);
	}
}

static void stay_on_one_cpu(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
}

int main(int argc, char **argv)
{
	passing function;
	void *library;

	parse_now(argc, argv);
	stay_on_one_cpu();
	stage("ready");
	map_code(FLOOD);
	library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	function = library ? (passing)dlsym(library, "first") : NULL;
	if (!function) {
		dprintf(STDERR_FILENO, "%s\n", dlerror());
		return 1;
	}
	stage("opened");
	for (int i = 0; i < ROUNDS; i++) {
		map_code(1); /* this record reports that others were lost */
		zero = function(take, SIZE) & zero;
		stage("leaked");
	}
	sink = NULL;
	answer("size", SIZE);
	stage("done");
	return 0;
}
