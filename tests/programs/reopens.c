// build: -O2 -g -fno-optimize-sibling-calls -ldl
// SPDX-License-Identifier: Apache-2.0
/*
 * reopens FIRST SECOND: leaks blocks through two libraries (passing.c, with NAME=first and
 * NAME=second) that are loaded at the same addresses, one after the other. Stages: `ready`, with
 * the first one open, `turned` after each turn but the last, when the next library is opened,
 * `done`.
 */
#include <dlfcn.h>

#include "answers.h"

#define TURNS 4
#define BLOCKS 101
#define FIRST_SIZE 5003
#define SECOND_SIZE 7001

typedef int (*passing)(int (*)(int), int);

static void *volatile sink;
static volatile int zero;

NOINLINE static int take(int size)
{
	sink = malloc(size);
	return zero;
}

static passing find(void *library, const char *name)
{
	passing found = library ? (passing)dlsym(library, name) : NULL;

	if (!found) {
		dprintf(STDERR_FILENO, "%s\n", dlerror());
		_exit(1);
	}
	return found;
}

NOINLINE static void leak(passing function, int size)
{
	for (int i = 0; i < BLOCKS; i++)
		zero = function(take, size) & zero;
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "first", "second" };
	static const int sizes[] = { FIRST_SIZE, SECOND_SIZE };
	void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	passing function = find(library, names[0]), place = function;
	long same = 1;

	parse_now(argc, argv);
	stage("ready");
	for (int turn = 0; turn < TURNS; turn++) {
		leak(function, sizes[turn % 2]);
		stage("turned");
		dlclose(library);
		library = dlopen(argv[1 + (turn + 1) % 2], RTLD_NOW | RTLD_LOCAL);
		function = find(library, names[(turn + 1) % 2]);
		same &= function == place;
	}
	sink = NULL;
	answer("same_place", same);
	answer("blocks", TURNS / 2 * BLOCKS);
	answer("first_size", FIRST_SIZE);
	answer("second_size", SECOND_SIZE);
	stage("done");
	return 0;
}
