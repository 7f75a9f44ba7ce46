// build: -O2 -g -fomit-frame-pointer -fno-optimize-sibling-calls -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Leaks one block at each of several places that are hard to unwind, and prints glibc's backtrace()
 * there: `SITE_N` is the Nth return address, counted from 0 at the allocation's direct caller,
 * whose own address is not compared. Blocks of site S have 5000 + S bytes.
 *
 * With the argument `fork` or `exec` it runs in a child or in a new image.
 */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "answers.h"

#define SIZE 5000
#define MOST 400

enum site {
	PLAIN,
	ALLOCA,
	REALIGNED,
	SIGNAL,
	DEEP,
	TOO_DEEP,
	THREAD,
	SORT,
	LIBRARY,
	ALTERNATE,
	SITES,
};

static void *volatile sink;
static volatile int zero;

NOINLINE static void record(int site)
{
	void *frames[MOST];
	char key[32];
	int count = backtrace(frames, MOST);

	sink = malloc(SIZE + site);
	for (int i = 1; i < count; i++) {
		snprintf(key, sizeof(key), "%d_%d", site, i);
		answer(key, (long)frames[i]);
	}
	sink = NULL;
}

#ifdef FAR /* a second segment of code: with -Wl,--section-start=.hot.text=ADDRESS */
#define PLACE __attribute__((section(".hot.text")))
#else
#define PLACE
#endif

NOINLINE PLACE static int plain(int site)
{
	record(site);
	return zero;
}

NOINLINE static int with_alloca(int size)
{
	char *block = alloca(size);

	block[zero] = 1;
	return plain(ALLOCA) + block[size - 1];
}

NOINLINE static int realigned(int size)
{
	__attribute__((aligned(64))) char block[64];
	char *more = alloca(size);

	block[zero] = more[zero] = 1;
	sink = block;
	return plain(REALIGNED) + block[zero] + more[zero];
}

static void on_signal(int number)
{
	plain(number == SIGUSR1 ? SIGNAL : ALTERNATE);
}

NOINLINE static int recurse(int depth, int site)
{
	volatile int here = depth;

	return depth ? recurse(depth - 1, site) + here : plain(site);
}

static void *in_thread(void *unused)
{
	plain(THREAD);
	return unused;
}

static int compare(const void *a, const void *b)
{
	static int done;

	if (!done++)
		plain(SORT);
	return *(const int *)a - *(const int *)b;
}

/* The beginning of zlib's z_stream. */
struct z_stream {
	void *next_in;
	unsigned available_in;
	unsigned long total_in;
	void *next_out;
	unsigned available_out;
	unsigned long total_out;
	void *message, *state;
	void *(*allocate)(void *, unsigned, unsigned);
	void (*release)(void *, void *);
	void *opaque;
	int data_type;
	unsigned long adler, reserved;
};

static void *from_library(void *opaque, unsigned items, unsigned size)
{
	static char arena[1 << 20];
	static size_t used;
	void *found = arena + used;

	if (!used)
		plain(LIBRARY);
	used += (items * (size_t)size + 15) & -16UL;
	return used <= sizeof(arena) ? found : NULL;
}

static void not_released(void *opaque, void *address)
{
}

NOINLINE static void call_library(void)
{
	struct z_stream stream = { .allocate = from_library, .release = not_released };
	void *library = dlopen("libz.so.1", RTLD_NOW);
	int (*begin)(struct z_stream *, const char *, int) =
		library ? (int (*)(struct z_stream *, const char *, int))dlsym(library, "inflateInit_")
			: NULL;

	if (begin)
		begin(&stream, "1", sizeof(stream));
}

NOINLINE static void on_other_stack(void)
{
	static char stack[1 << 16];
	stack_t other = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

	sigaltstack(&other, NULL);
	sigaction(SIGUSR2, &action, NULL);
	raise(SIGUSR2);
}

static void all_sites(void)
{
	int numbers[] = { 3, 1, 2 };
	pthread_t thread;

	plain(PLAIN);
	with_alloca(1000 + zero);
	realigned(100 + zero);
	signal(SIGUSR1, on_signal);
	raise(SIGUSR1);
	recurse(240, DEEP);
	recurse(300, TOO_DEEP);
	if (!pthread_create(&thread, NULL, in_thread, NULL))
		pthread_join(thread, NULL);
	qsort(numbers, 3, sizeof(*numbers), compare);
#ifndef NO_DLOPEN
	call_library();
#endif
	on_other_stack();
}

int main(int argc, char **argv)
{
	void *frames[MOST];
	bool second = argc > 1 && strcmp(argv[1], "again") == 0;

	parse_now(argc, argv);
	backtrace(frames, MOST); /* loads libgcc_s */
	if (!second)
		stage("ready");
	if (argc > 1 && strcmp(argv[1], "exec") == 0)
		execl("/proc/self/exe", argv[0], "again", NULL);
	if (argc > 1 && strcmp(argv[1], "fork") == 0) {
		pid_t child = fork();

		if (child) {
			waitpid(child, NULL, 0);
			stage("done");
			return 0;
		}
		answer("child", getpid());
		stage("forked");
	}
	all_sites();
	stage("done");
	return 0;
}
