// build: -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * Blocks that hold each other in every shape: chains, cycles, trees, pointers into the middle and
 * past the end, blocks that realloc has moved, blocks of every size.
 */
#include <malloc.h>

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

static void interior_pointer(void)
{
	char *block = BLOCK("interior", 200, POSSIBLE);

	hold(block + 100);
}

static void interior_last_byte(void)
{
	char *block = BLOCK("last-byte", 40, POSSIBLE);

	hold(block + 39);
}

/* What only a possibly lost block holds is possibly lost too. */
static void interior_chain(void)
{
	struct node *first = NODE("interior-chain-1", POSSIBLE);

	first->next = NODE("interior-chain-2", POSSIBLE);
	hold((char *)first + 24);
}

static void interior_in_the_middle(void)
{
	struct node *first = NODE("middle-1", REACHABLE);
	struct node *second = NODE("middle-2", POSSIBLE);

	second->next = NODE("middle-3", POSSIBLE);
	first->next = (struct node *)((char *)second + 16);
	hold(first);
}

static void interior_lost(void)
{
	struct node *first = NODE("interior-lost-1", DEFINITE);

	first->next = (struct node *)((char *)NODE("interior-lost-2", INDIRECT) + 16);
}

static void both_ways(void)
{
	struct node *both = NODE("both-ways", REACHABLE);

	hold((char *)both + 8);
	hold(both);
}

/* The size of this block leaves no room behind it: a pointer to its end points into no block. */
static void past_the_end(void)
{
	char *block = BLOCK("end-full", 40, DEFINITE);

	hold(block + 40);
}

/* Here the allocator has room behind the requested size. */
static void past_the_requested_end(void)
{
	char *block = BLOCK("end-spare", 33, DEFINITE);

	hold(block + 33);
}

static void low_tag(void)
{
	hold((void *)((uintptr_t)BLOCK("low-tag", 48, POSSIBLE) | 1));
}

static void high_tag(void)
{
	hold((void *)((uintptr_t)BLOCK("high-tag", 48, DEFINITE) | 1UL << 62));
}

static void hidden(void)
{
	hold((void *)((uintptr_t)BLOCK("hidden", 48, DEFINITE) ^ 0x5a5a5a5a5a5a5a5aUL));
}

static struct __attribute__((packed)) {
	char first[4];
	void *pointer;
} packed __attribute__((aligned(8)));

static void unaligned(void)
{
	packed.pointer = BLOCK("unaligned", 48, DEFINITE);
}

static void freed_holder(void)
{
	void **holder = malloc(96);

	holder[5] = BLOCK("freed-holder", 48, DEFINITE);
	free(holder);
}

/* The pointer to a freed block stays, and the freed block holds another. */
static void freed_holder_held(void)
{
	void **holder = malloc(112);

	holder[5] = BLOCK("freed-holder-held", 48, DEFINITE);
	hold(holder);
	free(holder);
}

static void freed_large_holder(void)
{
	void **holder = malloc(3000);
	void *above = BLOCK("freed-large-above", 64, REACHABLE);

	hold(above);
	holder[100] = BLOCK("freed-large-holder", 48, DEFINITE);
	free(holder);
}

/* Only its own content may be in a block, so the new part is cleared. */
static void *grown(void *block, size_t old, size_t size)
{
	char *moved = realloc(block, size);

	memset(moved + old, 0, size - old);
	return moved;
}

/* The old block still has the pointer. */
static void realloc_moves(void)
{
	void **block = malloc(64);

	hold(BLOCK("realloc-above", 64, REACHABLE));
	block[3] = BLOCK("realloc-content", 48, REACHABLE);
	hold(noted(grown(block, 64, 4096), "realloc-moved", 4096, REACHABLE));
}

/* The new block is lost, and with it what it has from the old one, to which a pointer remains. */
static void realloc_loses(void)
{
	void **block = malloc(80);

	hold(block);
	hold(BLOCK("realloc-loses-above", 64, REACHABLE));
	block[3] = BLOCK("realloc-loses-content", 48, INDIRECT);
	noted(grown(block, 80, 4096), "realloc-loses-moved", 4096, DEFINITE);
}

static void realloc_shrinks(void)
{
	void **block = malloc(1024);

	hold(block);
	block[100] = BLOCK("realloc-cut-off", 48, DEFINITE);
	block = realloc(block, 64);
	roots[root_count - 1] = noted(block, "realloc-shrunk", 64, REACHABLE);
}

static void zero_size(void)
{
	hold(BLOCK("zero-held", 0, REACHABLE));
	(void)!BLOCK("zero-lost", 0, DEFINITE);
}

static void calloc_blocks(void)
{
	hold(noted(calloc(7, 11), "calloc-held", 77, REACHABLE));
	noted(calloc(7, 11), "calloc-lost", 77, DEFINITE);
}

static void memalign_blocks(void)
{
	void *block;

	hold(noted(memalign(256, 100), "memalign-held", 100, REACHABLE));
	noted(memalign(256, 100), "memalign-lost", 100, DEFINITE);
	hold((char *)noted(memalign(64, 200), "memalign-interior", 200, POSSIBLE) + 64);
	hold(noted(aligned_alloc(4096, 8192), "aligned-alloc-held", 8192, REACHABLE));
	if (!posix_memalign(&block, 1024, 2048))
		noted(block, "posix-memalign-lost", 2048, DEFINITE);
}

#define HUGE_SIZE (3 << 20)

/* The allocator gives these mappings of their own. */
static void huge_blocks(void)
{
	void **held = BLOCK("huge-held", HUGE_SIZE, REACHABLE);
	void **lost = BLOCK("huge-lost", HUGE_SIZE, DEFINITE);

	hold(held);
	held[200001] = BLOCK("huge-held-content", 48, REACHABLE);
	lost[200001] = BLOCK("huge-lost-content", 48, INDIRECT);
	hold((char *)BLOCK("huge-interior", HUGE_SIZE, POSSIBLE) + (1 << 20));
	hold(noted(memalign(1 << 16, HUGE_SIZE), "huge-aligned-held", HUGE_SIZE, REACHABLE));
	noted(memalign(1 << 16, HUGE_SIZE), "huge-aligned-lost", HUGE_SIZE, DEFINITE);
}

static void huge_grown(void)
{
	hold(noted(realloc(malloc(HUGE_SIZE), 2 * HUGE_SIZE), "huge-grown", 2 * HUGE_SIZE, REACHABLE));
}

#define RUN 30

/* Neighbours of all small sizes, every second one lost. */
static void many_sizes(void)
{
	static char names[RUN][16];
	void **index = BLOCK("sizes-index", RUN * sizeof(void *), REACHABLE);

	hold(index);
	for (int i = 0; i < RUN; i++) {
		snprintf(names[i], sizeof(names[i]), "sizes-%d", i);
		if (i % 2)
			index[i] = BLOCK(names[i], 1 + 37 * i, REACHABLE);
		else
			(void)!BLOCK(names[i], 1 + 37 * i, DEFINITE);
	}
}

/* The last ones leave pointers to freed blocks, whose memory no other block may get. */
static const struct reach_case cases[] = {
	CASE(many_sizes),
	CASE(chain_held),
	CASE(chain_lost),
	CASE(chain_read),
	CASE(cycle_held),
	CASE(self_lost),
	CASE(cycle_lost),
	CASE(cycles_joined),
	CASE(cycles_joined_upwards),
	CASE(cycles_share),
	CASE(tail_of_cycle),
	CASE(tree_lost),
	CASE(tree_held),
	CASE(diamond_lost),
	CASE(interior_pointer),
	CASE(interior_last_byte),
	CASE(interior_chain),
	CASE(interior_in_the_middle),
	CASE(interior_lost),
	CASE(both_ways),
	CASE(past_the_end),
	CASE(past_the_requested_end),
	CASE(low_tag),
	CASE(high_tag),
	CASE(hidden),
	CASE(unaligned),
	CASE(zero_size),
	CASE(calloc_blocks),
	CASE(memalign_blocks),
	CASE(huge_blocks),
	CASE(huge_grown),
	CASE(freed_large_holder),
	CASE(realloc_moves),
	CASE(realloc_shrinks),
	CASE(freed_holder),
	CASE(realloc_loses),
	CASE(freed_holder_held),
};

int main(int argc, char **argv)
{
	return run_cases(argc, argv, cases, sizeof(cases) / sizeof(*cases));
}
