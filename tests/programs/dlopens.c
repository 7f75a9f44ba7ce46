// build: -O1 -g -fno-omit-frame-pointer -ldl
// SPDX-License-Identifier: Apache-2.0
/*
 * dlopens LIBRARY [PREFIX]: loads an allocator while it runs, and uses it beside libc's. PREFIX is
 * what the library puts before malloc and free, such as mi_. Stages: `ready`, `loaded`, `done`.
 */
#include <dlfcn.h>

#include "answers.h"

#define PAIRS 307
#define LEAKED 5
#define LEAKED_SIZE 5003

typedef void *(*malloc_function)(size_t);
typedef void (*free_function)(void *);

static void *volatile sink;

static void *find(void *library, const char *prefix, const char *name)
{
	char symbol[64];

	snprintf(symbol, sizeof(symbol), "%s%s", prefix, name);
	return dlsym(library, symbol);
}

NOINLINE static void use(malloc_function allocate, free_function release)
{
	for (int i = 0; i < PAIRS; i++) {
		sink = allocate(100 + i);
		release(sink);
	}
	for (int i = 0; i < LEAKED; i++)
		sink = allocate(LEAKED_SIZE);
}

int main(int argc, char **argv)
{
	const char *prefix = argc > 2 && strcmp(argv[2], "now") ? argv[2] : "";
	malloc_function allocate;
	free_function release;
	void *library;

	if (argc < 2)
		return 2;
	parse_now(argc, argv);
	stage("ready");
	library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		dprintf(STDERR_FILENO, "%s\n", dlerror());
		return 1;
	}
	allocate = (malloc_function)find(library, prefix, "malloc");
	release = (free_function)find(library, prefix, "free");
	stage("loaded");
	if (!allocate || !release)
		return 3;
	use(allocate, release);
	sink = NULL;
	answer("allocs", PAIRS + LEAKED);
	answer("frees", PAIRS);
	answer("live_blocks", LEAKED);
	answer("live_bytes", LEAKED * LEAKED_SIZE);
	answer("size", LEAKED_SIZE);
	stage("done");
	return 0;
}
