// build: -O1 -g -pthread -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * Holds ever more for STEPS steps, in some seconds, as its argument says: `list` keeps each block
 * in a list, `buffer` enlarges one block, `mappings` maps pages, `descriptors` opens files. With
 * `threads`, a list grows in threads that also free other blocks and end at once. With `turns`, one
 * function after the other keeps blocks, as if a JIT compiler moved the code. These
 * are healthy: `cache` replaces its oldest entry when it is full, `stops` keeps what it allocates in
 * the first third, `batches` frees all 20 times. Prints what it holds, and the milliseconds.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

#include "answers.h"

#define STEPS 2500
#define PAUSE_NS 20000000
#define ENTRIES 200

struct entry {
	struct entry *next;
	char text[56];
};

static struct entry *entries;
static struct entry *cache[ENTRIES];
static char *buffer;
static long held;

static NOINLINE void keep_entry(void)
{
	struct entry *entry = malloc(sizeof(*entry));

	entry->next = entries;
	entries = entry;
	held++;
}

#define REQUEST_BLOCKS 8
#define LARGE 3000
#define TURNS 5

struct large {
	struct large *next;
	char text[LARGE - sizeof(struct large *)];
};

static struct large *larges;

static void *serve(void *unused)
{
	void *volatile blocks[REQUEST_BLOCKS];
	struct large *large;

	for (int i = 0; i < REQUEST_BLOCKS; i++)
		blocks[i] = malloc(100 + 40 * i);
	for (int i = 0; i < REQUEST_BLOCKS; i++)
		free(blocks[i]);
	large = malloc(sizeof(*large));
	large->next = larges;
	larges = large;
	held++;
	return NULL;
}

static void serve_in_a_thread(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, serve, NULL) || pthread_join(thread, NULL))
		_exit(113);
}

#define KEEPS(name)                                      \
	static NOINLINE void name(void)                  \
	{                                                \
		struct large *large = malloc(sizeof(*large)); \
                                                         \
		large->next = larges;                    \
		larges = large;                          \
		held++;                                  \
	}

KEEPS(keep_first)
KEEPS(keep_second)
KEEPS(keep_third)
KEEPS(keep_fourth)
KEEPS(keep_fifth)

static void (*const turns[TURNS])(void) = {
	keep_first, keep_second, keep_third, keep_fourth, keep_fifth,
};

static void drop_entries(void)
{
	for (struct entry *next; entries; entries = next) {
		next = entries->next;
		free(entries);
	}
	held = 0;
}

static void step(const char *what, int i)
{
	if (!strcmp(what, "list") || (!strcmp(what, "stops") && i < STEPS / 3)) {
		keep_entry();
	} else if (!strcmp(what, "batches")) {
		if (i % (STEPS / 20) == 0)
			drop_entries();
		keep_entry();
	} else if (!strcmp(what, "cache")) {
		free(cache[i % ENTRIES]);
		cache[i % ENTRIES] = malloc(64);
		held = i < ENTRIES ? i + 1 : ENTRIES;
	} else if (!strcmp(what, "buffer")) {
		held += 1000;
		buffer = realloc(buffer, held);
	} else if (!strcmp(what, "threads") && i % 5 == 0) {
		serve_in_a_thread();
	} else if (!strcmp(what, "turns")) {
		turns[i * TURNS / STEPS]();
	} else if (!strcmp(what, "mappings") && i % 10 == 0) {
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		held++;
	} else if (!strcmp(what, "descriptors") && i % 20 == 0) {
		open("/dev/null", O_RDONLY);
		held++;
	}
}

static long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	struct timespec pause = { .tv_nsec = PAUSE_NS };
	const char *what = argc > 1 ? argv[1] : "list";
	long began;

	stage("ready");
	began = milliseconds();
	for (int i = 0; i < STEPS; i++) {
		step(what, i);
		nanosleep(&pause, NULL);
	}
	answer("held", held);
	answer("milliseconds", milliseconds() - began);
	stage("done");
	return 0;
}
