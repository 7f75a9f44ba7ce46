// build: -O2 -g -D_GNU_SOURCE -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * mover [THREADS]: moves the only pointers to 10,000 blocks all the time, between the heap, the
 * stack, static memory and other blocks. While it moves, a pointer is in a register only. 50 other
 * blocks are lost: `block lost ...` names them. Prints how many pointers move in a millisecond.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "blocks.h"

#define BLOCKS 10000
#define MAX_THREADS 4
#define LOST 50
#define PLACES 4 /* heap, stack, static memory, other blocks */
#define CARRIED 8 /* pointers in a block that carries them */
#define MEASURED_NS 100000000L

struct carrier {
	void *volatile words[CARRIED];
};

static void *volatile in_static[BLOCKS + MAX_THREADS];
static void *volatile *volatile in_heap[MAX_THREADS];
static struct carrier **volatile carriers[MAX_THREADS];
static _Atomic long moves[MAX_THREADS];
static atomic_int started;
static long threads;

struct mover {
	long number, count;
	void *volatile *in_stack;
};

/* The places are dealt out in turn. */
static inline void *volatile *place(const struct mover *mover, long slot)
{
	long at = slot / PLACES;

	switch (slot % PLACES) {
	case 0:
		return &in_heap[mover->number][at];
	case 1:
		return &mover->in_stack[at];
	case 2:
		return &in_static[mover->number * (mover->count / PLACES + 1) + at];
	default:
		return &carriers[mover->number][at / CARRIED]->words[at % CARRIED];
	}
}

NOINLINE static void fill(const struct mover *mover)
{
	long each = mover->count / PLACES + 1;

	in_heap[mover->number] = calloc(each, sizeof(void *));
	carriers[mover->number] = calloc(each / CARRIED + 1, sizeof(struct carrier *));
	for (long i = 0; i <= each / CARRIED; i++)
		carriers[mover->number][i] = calloc(1, sizeof(struct carrier));
	for (long slot = 0; slot < mover->count; slot++)
		*place(mover, slot) = calloc(1, 16 + slot % 200);
}

/* One place is empty; the next block to move goes there. */
static void *move(void *argument)
{
	struct mover mover = {.number = (long)argument, .count = BLOCKS / threads};
	void *volatile in_stack[mover.count / PLACES + 1];
	unsigned long random = 88172645463325252UL + mover.number, empty = mover.count;

	memset((void *)in_stack, 0, sizeof(in_stack));
	mover.in_stack = in_stack;
	fill(&mover);
	forget();
	atomic_fetch_add(&started, 1);
	for (;;) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		unsigned long from = ((random >> 32) * (unsigned long)mover.count) >> 32;
		void *volatile *source = place(&mover, from);
		void *block = *source;

		*source = NULL;
		*place(&mover, empty) = block;
		empty = from;
		atomic_store_explicit(&moves[mover.number],
				      atomic_load_explicit(&moves[mover.number], memory_order_relaxed) + 1,
				      memory_order_relaxed);
	}
	return NULL;
}

static void lose(void)
{
	for (long i = 0; i < LOST; i++)
		(void)!BLOCK("lost", 24 + 8 * i, DEFINITE);
}

static long all_moves(void)
{
	long sum = 0;

	for (long i = 0; i < threads; i++)
		sum += atomic_load(&moves[i]);
	return sum;
}

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

static void measure(void)
{
	long begin = now(), before = all_moves();

	while (now() < begin + MEASURED_NS)
		usleep(1000);
	answer("moves_per_ms", (all_moves() - before) * 1000000 / (now() - begin));
}

int main(int argc, char **argv)
{
	pthread_t thread;

	parse_now(argc, argv);
	threads = number(argc, argv, 1, 1);
	if (threads < 1 || threads > MAX_THREADS)
		return 2;
	stage("ready");
	lose();
	forget();
	for (long i = 0; i < threads; i++)
		pthread_create(&thread, NULL, move, (void *)i);
	while (atomic_load(&started) < threads)
		usleep(1000);
	measure();
	for (int i = 0; i < named_count; i++)
		print_block(&named[i]);
	forget();
	stage("done");
	return 0;
}
