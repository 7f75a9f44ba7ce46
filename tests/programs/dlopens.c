// build: -O1 -g -fno-omit-frame-pointer -ldl
// SPDX-License-Identifier: Apache-2.0
/*
 * dlopens [LIBRARY [PREFIX]]: loads a second allocator (mimalloc) at run time and uses it. PREFIX
 * is the library's prefix of malloc and free, such as mi_. Stages: `ready`, `loaded`, `done`. The
 * loader itself allocates from libc, so the answers cover only use_loaded.
 */
#include <dlfcn.h>

#include "answers.h"

#define PAIRS 307
#define LEAKED 5
#define LEAKED_SIZE 5003

typedef void *(*malloc_function)(size_t);
typedef void (*free_function)(void *);

static void *volatile sink;

static const char *text(int argc, char **argv, int i, const char *otherwise)
{
	return i < argc && strcmp(argv[i], "now") ? argv[i] : otherwise;
}

static void *find(void *library, const char *prefix, const char *name)
{
	char symbol[64];

	snprintf(symbol, sizeof(symbol), "%s%s", prefix, name);
	return dlsym(library, symbol);
}

NOINLINE static void use_loaded(malloc_function allocate, free_function release)
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
	const char *path = text(argc, argv, 1, "libmimalloc.so.2");
	const char *prefix = text(argc, argv, 2, "");
	malloc_function allocate;
	free_function release;
	void *library;

	parse_now(argc, argv);
	stage("ready");
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		dprintf(STDERR_FILENO, "%s\n", dlerror());
		return 1;
	}
	allocate = (malloc_function)find(library, prefix, "malloc");
	release = (free_function)find(library, prefix, "free");
	stage("loaded");
	if (!allocate || !release)
		return 3;
	use_loaded(allocate, release);
	sink = NULL;
	answer("loaded_allocs", PAIRS + LEAKED);
	answer("loaded_frees", PAIRS);
	answer("loaded_blocks", LEAKED);
	answer("loaded_bytes", LEAKED * LEAKED_SIZE);
	answer("loaded_size", LEAKED_SIZE);
	stage("done");
	return 0;
}
