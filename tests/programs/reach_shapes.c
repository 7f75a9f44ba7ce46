// build: -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * Blocks that hold each other in every shape: those of reach_graphs.h, pointers into the middle and
 * past the end, blocks that realloc has moved, blocks of every size.
 */
#include <malloc.h>

#include "blocks.h"
#include "reach_graphs.h"

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
