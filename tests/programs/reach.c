// build: -O1 -g -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Holds blocks in known ways. For each it prints NAME.address, NAME.size and NAME.class: 0
 * reachable, 1 possibly, 2 indirectly, 3 definitely lost. NAME.stack is 1 if only the stack on which
 * a thread runs holds it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "answers.h"

enum reach { REACHABLE, POSSIBLE, INDIRECT, DEFINITE };

/* What the program itself remembers must not look like a pointer. */
#define HIDE(address) (~(unsigned long)(address))

static struct block {
	const char *name;
	unsigned long hidden;
	unsigned long size;
	enum reach reach;
	int only_stack;
} blocks[64];
static int block_count;

static void *volatile globals[64];
static int global_count;
static _Thread_local void *volatile in_tls;
static pthread_key_t key;
static atomic_int waiting_threads;
static char signal_stack[1 << 16] __attribute__((aligned(16)));
static int pipes[2];

static void **expect(const char *name, unsigned long size, enum reach reach, int only_stack)
{
	void **block = memset(malloc(size), 0, size);

	blocks[block_count++] = (struct block){ name, HIDE(block), size, reach, only_stack };
	__asm__ volatile("" : "+r"(block) : : "memory"); /* what is stored there is stored */
	return block;
}

static void **block(const char *name, unsigned long size, enum reach reach)
{
	return expect(name, size, reach, 0);
}

static void hold(void *pointer)
{
	globals[global_count++] = pointer;
}

static void *at(void *start, long offset)
{
	return (char *)start + offset;
}

static NOINLINE void hold_in_chains(void)
{
	void **first = block("chain", 48, REACHABLE), **inner;

	hold(first);
	first[1] = block("chain_next", 48, REACHABLE);
	inner = block("interior", 48, POSSIBLE);
	hold(at(inner, 47));
	inner[5] = block("after_interior", 48, POSSIBLE);
	hold(at(block("past_the_end", 24, DEFINITE), 24));
	hold(block("no_bytes", 0, REACHABLE));
	memcpy(at((void *)&globals[40], 3), &(void *){ block("unaligned", 48, DEFINITE) }, 8);
	/* Only the first word of the array lies in the block as a whole. */
	first = block("short", 15, REACHABLE);
	hold(first);
	memcpy(&first[1], &(void *){ block("cut_word", 48, DEFINITE) }, 7);
}

static NOINLINE void lose(void)
{
	void **a, **b, **c;

	block("lost_no_bytes", 0, DEFINITE);
	a = block("lost", 48, DEFINITE);
	a[0] = block("lost_next", 48, INDIRECT);
	a = block("lost_self", 48, DEFINITE);
	a[3] = a;
	a = block("ring", 48, DEFINITE);
	b = block("ring_next", 48, INDIRECT);
	a[0] = b;
	b[0] = a;
	a = block("low_ring", 48, INDIRECT);
	b = block("low_ring_next", 48, INDIRECT);
	c = block("high_ring", 48, DEFINITE);
	a[0] = b;
	b[0] = a;
	c[0] = block("high_ring_next", 48, INDIRECT);
	*(void **)c[0] = c;
	c[1] = at(b, 8);
}

static NOINLINE void hold_by_heuristics(void)
{
	void **length = block("length64", 72, REACHABLE);
	void **array = block("newarray", 8 + 3 * 20, REACHABLE);
	void **string = block("stdstring", 24 + 30 + 1, REACHABLE);
	void **other = block("no_stdstring", 24 + 30 + 2, POSSIBLE);

	length[0] = (void *)64L;
	array[0] = (void *)3L;
	string[0] = other[0] = (void *)7L;
	string[1] = other[1] = (void *)30L;
	hold(length + 1);
	hold(array + 1);
	hold(string + 3);
	hold(other + 3);
}

static void **map(int flags)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
}

static NOINLINE void hold_in_mappings(void)
{
	void **none = map(MAP_PRIVATE), **readable = map(MAP_PRIVATE);

	*map(MAP_PRIVATE) = block("mapped", 48, REACHABLE);
	*map(MAP_SHARED) = block("shared", 48, REACHABLE);
	*none = block("protected", 48, REACHABLE);
	mprotect(none, 4096, PROT_NONE);
	*readable = block("readable", 48, REACHABLE);
	mprotect(readable, 4096, PROT_READ);
	in_tls = block("tls", 48, REACHABLE);
	pthread_setspecific(key, block("specific", 48, REACHABLE));
}

static void wait_forever(void)
{
	char byte;

	waiting_threads++;
	if (read(pipes[0], &byte, 1) < 0)
		_exit(113);
}

static NOINLINE void leave_below(const char *name)
{
	void *volatile old[512];

	old[0] = block(name, 48, DEFINITE);
}

static void *run_on_stack(void *unused)
{
	void *volatile local = expect("thread_local", 48, REACHABLE, 1);

	leave_below("below_thread");
	wait_forever();
	return local;
}

static void on_signal(int number)
{
	void *volatile local;

	local = block(number == SIGUSR1 ? "handler" : "heap_handler", 48, REACHABLE);
	wait_forever();
	(void)local;
}

/* The thread's own stack is in use, too, though its stack pointer is elsewhere. */
static void *run_on_signal_stack(void *unused)
{
	void *volatile local = block("interrupted", 48, REACHABLE);
	stack_t stack = { .ss_sp = signal_stack, .ss_size = sizeof(signal_stack) };

	sigaltstack(&stack, NULL);
	raise(SIGUSR1);
	return local;
}

static void *run_on_heap_stack(void *unused)
{
	stack_t stack = { .ss_size = 1 << 16 };

	stack.ss_sp = block("heap_stack", stack.ss_size, REACHABLE);
	sigaltstack(&stack, NULL);
	raise(SIGUSR2);
	return NULL;
}

static NOINLINE void start_threads(void)
{
	void *(*runs[])(void *) = { run_on_stack, run_on_signal_stack, run_on_heap_stack };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
	pthread_t thread;

	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
	for (int i = 0; i < 3; i++) {
		pthread_create(&thread, NULL, runs[i], NULL);
		while (waiting_threads <= i)
			usleep(100);
	}
}

static NOINLINE void print(const struct block *block)
{
	char key_of[64];
	const struct {
		const char *part;
		long value;
	} parts[] = {
		{ "address", ~block->hidden },
		{ "size", block->size },
		{ "class", block->reach },
		{ "stack", block->only_stack },
	};

	for (int i = 0; i < 4; i++) {
		snprintf(key_of, sizeof(key_of), "%s.%s", block->name, parts[i].part);
		answer(key_of, parts[i].value);
	}
}

int main(int argc, char **argv)
{
	void *volatile local;

	parse_now(argc, argv);
	if (pipe(pipes) || pthread_key_create(&key, NULL))
		return 114;
	hold_in_chains();
	lose();
	hold_by_heuristics();
	hold_in_mappings();
	start_threads();
	leave_below("below_main");
	local = expect("main_local", 48, REACHABLE, 1);
	for (int i = 0; i < block_count; i++)
		print(&blocks[i]);
	stage("ready");
	return local == NULL;
}
