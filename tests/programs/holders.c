// build: -O1 -g -fno-inline -fno-optimize-sibling-calls -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Blocks that are held by a global variable, a thread-local one, a word of a stack, a chain of
 * 100,000 blocks; and the blocks of one function, which several places hold.
 */
#include "blocks.h"

#include <pthread.h>

#define NODES 100000
#define ENTRIES 30
#define SESSIONS 12
#define LOST 5

struct node {
	struct node *next;
};

static void *volatile by_global;
static void *volatile cache[ENTRIES];
static void *volatile *volatile sessions;
static struct node *volatile chain;
static _Thread_local void *volatile by_tls;
static pthread_barrier_t held;

static void hold_by_global(void)
{
	by_global = BLOCK("by-global", 72, REACHABLE);
	by_tls = BLOCK("by-tls", 88, REACHABLE);
}

static void *hold_by_stack(void *unused)
{
	void *volatile word = BLOCK("by-stack", 104, REACHABLE);

	forget();
	pthread_barrier_wait(&held);
	pause();
	return word;
}

static void hold_in_thread(void)
{
	pthread_t thread;

	pthread_barrier_init(&held, NULL, 2);
	if (pthread_create(&thread, NULL, hold_by_stack, NULL))
		_exit(124);
	pthread_barrier_wait(&held);
}

static void hold_by_chain(void)
{
	struct node *first = NULL;

	for (int i = 0; i < NODES; i++) {
		struct node *node = malloc(sizeof(*node));

		node->next = first;
		first = node;
		if (i == 0)
			noted(node, "chain-end", sizeof(*node), REACHABLE);
	}
	chain = first;
}

static void *new_entry(void)
{
	return memset(malloc(200), 0, 200);
}

static void hold_entries(void)
{
	for (int i = 0; i < ENTRIES; i++)
		cache[i] = new_entry();
	sessions = calloc(SESSIONS, sizeof(*sessions));
	for (int i = 0; i < SESSIONS; i++)
		sessions[i] = new_entry();
	for (int i = 0; i < LOST; i++)
		(void)!new_entry();
}

static const struct reach_case cases[] = {
	CASE(hold_by_global),
	CASE(hold_in_thread),
	CASE(hold_by_chain),
	CASE(hold_entries),
};

int main(int argc, char **argv)
{
	return run_cases(argc, argv, cases, sizeof(cases) / sizeof(*cases));
}
