// build: -O1 -g -D_GNU_SOURCE -pthread -ldl
// SPDX-License-Identifier: Apache-2.0
/*
 * reach_library LIBRARY: blocks held by a library that is loaded at run time. With -DLIBRARY this
 * file is that library.
 */
#ifdef LIBRARY

#include <stdlib.h>

void *(*library_malloc)(size_t) = malloc;
void *volatile library_data = (void *)1;
void *volatile library_bss;
static __thread void *volatile library_thread;
static __thread char room[4096];

void keep_in_thread(void *block)
{
	room[0] = 1;
	library_thread = block;
}

#else

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

#include "blocks.h"

static const char *library_path;
static void *library;
static void (*keep_in_thread)(void *);
static atomic_int parked;

static void sections(void)
{
	*(void **)dlsym(library, "library_data") = BLOCK("library-data", 40, REACHABLE);
	*(void **)dlsym(library, "library_bss") = BLOCK("library-bss", 40, REACHABLE);
}

static void thread_memory_of_main(void)
{
	keep_in_thread(BLOCK("library-thread-local-of-main", 40, REACHABLE));
}

/* glibc points into the middle of a thread's table of such memory. */
static void *use_library(void *argument)
{
	keep_in_thread(BLOCK("library-thread-local", 40, POSSIBLE));
	forget();
	atomic_fetch_add(&parked, 1);
	for (;;)
		pause();
	return argument;
}

static void thread_memory(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, use_library, NULL))
		_exit(114);
	while (!atomic_load(&parked))
		usleep(100);
}

/* A copy of the library in a namespace of its own has its own C library, with its own heap. */
static void namespace(void)
{
	void *copy = dlmopen(LM_ID_NEWLM, library_path, RTLD_NOW | RTLD_LOCAL);
	void *(*take)(size_t);
	void **held, **lost;

	if (!copy)
		_exit(115);
	take = *(void *(**)(size_t))dlsym(copy, "library_malloc");
	held = cleared(noted(take(72), "other-libc-held", 72, REACHABLE), 72);
	lost = cleared(noted(take(88), "other-libc-lost", 88, DEFINITE), 88);
	*(void **)dlsym(copy, "library_data") = held;
	held[2] = BLOCK("held-by-other-libc", 40, REACHABLE);
	lost[2] = BLOCK("lost-by-other-libc", 40, INDIRECT);
}

static const struct reach_case cases[] = {
	CASE(sections),
	CASE(namespace),
	CASE(thread_memory_of_main),
	CASE(thread_memory),
};

int main(int argc, char **argv)
{
	library_path = argv[1];
	library = argc > 1 ? dlopen(library_path, RTLD_NOW | RTLD_LOCAL) : NULL;
	if (!library) {
		dprintf(STDERR_FILENO, "%s\n", argc > 1 ? dlerror() : "name the library");
		return 1;
	}
	keep_in_thread = (void (*)(void *))dlsym(library, "keep_in_thread");
	return run_cases(argc - 1, argv + 1, cases, sizeof(cases) / sizeof(*cases));
}

#endif
