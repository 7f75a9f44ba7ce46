/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks that hold each other: chains, cycles, trees. `hold` keeps a pointer to one as a root. */
#ifndef REACH_GRAPHS_H
#define REACH_GRAPHS_H

#include "blocks.h"

struct node {
	struct node *next, *other;
	char filler[33];
};

#define NODE(name, expected) BLOCK(name, sizeof(struct node), expected)

static void *volatile roots[64];
static int root_count;

static void hold(void *pointer)
{
	roots[root_count++] = pointer;
}

static void chain_held(void)
{
	struct node *first = NODE("chain-held-1", REACHABLE);

	first->next = NODE("chain-held-2", REACHABLE);
	first->next->next = NODE("chain-held-3", REACHABLE);
	hold(first);
}

static void chain_lost(void)
{
	struct node *first = NODE("chain-lost-1", DEFINITE);

	first->next = NODE("chain-lost-2", INDIRECT);
	first->next->next = NODE("chain-lost-3", INDIRECT);
}

/* The first block of a list is lost when the list is read. */
static void chain_read(void)
{
	struct node *first = NODE("chain-read-1", DEFINITE);

	first->next = NODE("chain-read-2", REACHABLE);
	first->next->next = NODE("chain-read-3", REACHABLE);
	hold(first->next);
}

static void cycle_held(void)
{
	struct node *first = NODE("cycle-held-1", REACHABLE);

	first->next = NODE("cycle-held-2", REACHABLE);
	first->next->next = first;
	hold(first->next);
}

static void self_lost(void)
{
	struct node *only = NODE("self-lost", DEFINITE);

	only->next = only;
}

static void make_ring(void **blocks, int count)
{
	for (int i = 0; i < count; i++)
		((struct node *)blocks[i])->next = blocks[(i + 1) % count];
	expect_cycle(blocks, count);
}

static void cycle_lost(void)
{
	void *ring[] = {
		NODE("cycle-lost-1", DEFINITE),
		NODE("cycle-lost-2", INDIRECT),
		NODE("cycle-lost-3", INDIRECT),
		NODE("cycle-lost-4", INDIRECT),
	};

	make_ring(ring, 4);
}

/* The second cycle is held by the first, so only one block of the first is definitely lost. */
static void cycles_joined(void)
{
	void *second[] = {NODE("joined-second-1", INDIRECT), NODE("joined-second-2", INDIRECT)};
	void *first[] = {
		NODE("joined-first-1", DEFINITE),
		NODE("joined-first-2", INDIRECT),
		NODE("joined-first-3", INDIRECT),
	};

	make_ring(second, 2);
	make_ring(first, 3);
	((struct node *)first[1])->other = second[0];
	for (int i = 0; i < named_count; i++)
		if (!strncmp(named[i].name, "joined-second", 13))
			named[i].expected = INDIRECT;
}

/* The same with the addresses the other way round: the lost cycle is below the one that it holds. */
static void cycles_joined_upwards(void)
{
	void *first[] = {NODE("upwards-first-1", DEFINITE), NODE("upwards-first-2", INDIRECT)};
	void *second[] = {NODE("upwards-second-1", INDIRECT), NODE("upwards-second-2", INDIRECT)};

	make_ring(first, 2);
	make_ring(second, 2);
	((struct node *)first[0])->other = second[1];
	for (int i = 0; i < named_count; i++)
		if (!strncmp(named[i].name, "upwards-second", 14))
			named[i].expected = INDIRECT;
}

/* Two lost cycles and one that both hold. */
static void cycles_share(void)
{
	void *shared[] = {NODE("share-common-1", INDIRECT), NODE("share-common-2", INDIRECT)};
	void *left[] = {NODE("share-left-1", DEFINITE), NODE("share-left-2", INDIRECT)};
	void *right[] = {NODE("share-right-1", DEFINITE), NODE("share-right-2", INDIRECT)};

	make_ring(left, 2);
	make_ring(right, 2);
	make_ring(shared, 2);
	((struct node *)left[0])->other = shared[0];
	((struct node *)right[1])->other = shared[1];
	for (int i = 0; i < named_count; i++)
		if (!strncmp(named[i].name, "share-common", 12))
			named[i].expected = INDIRECT;
}

static void tail_of_cycle(void)
{
	void *ring[] = {NODE("tail-ring-1", INDIRECT), NODE("tail-ring-2", INDIRECT)};
	struct node *head = NODE("tail-head", DEFINITE);

	((struct node *)ring[0])->next = ring[1];
	((struct node *)ring[1])->next = ring[0];
	head->next = ring[0];
}

static struct node *tree(const char *const *names, int i, enum class_of_block root)
{
	struct node *node = NODE(names[i], root);
	enum class_of_block below = root == DEFINITE ? INDIRECT : root;

	if (2 * i + 2 < 7) {
		node->next = tree(names, 2 * i + 1, below);
		node->other = tree(names, 2 * i + 2, below);
	}
	return node;
}

static void tree_lost(void)
{
	static const char *const names[] = {
		"tree-lost-1", "tree-lost-2", "tree-lost-3", "tree-lost-4",
		"tree-lost-5", "tree-lost-6", "tree-lost-7",
	};

	tree(names, 0, DEFINITE);
}

static void tree_held(void)
{
	static const char *const names[] = {
		"tree-held-1", "tree-held-2", "tree-held-3", "tree-held-4",
		"tree-held-5", "tree-held-6", "tree-held-7",
	};

	hold(tree(names, 0, REACHABLE));
}

static void diamond_lost(void)
{
	struct node *top = NODE("diamond-top", DEFINITE);

	top->next = NODE("diamond-left", INDIRECT);
	top->other = NODE("diamond-right", INDIRECT);
	top->next->next = top->other->next = NODE("diamond-bottom", INDIRECT);
}

#endif
