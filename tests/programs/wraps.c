// build: -O1 -g -fno-omit-frame-pointer
// SPDX-License-Identifier: Apache-2.0
/*
 * Functions that allocate for their callers, under names that say nothing, and functions that look
 * like them: a constructor, and one that keeps the block. With `few` or `filled`, there is one leak
 * only.
 */
#include "answers.h"

struct node {
	struct node *next;
	long data[9];
};

static struct node *nodes;
static char *kept;
static size_t kept_size;
static void *volatile lost;

NOINLINE static void *obtain(size_t size)
{
	void *block = malloc(size);

	if (!block)
		abort();
	return block;
}

/* One more level; returns a part of the block. */
NOINLINE static void *obtain_counted(size_t size)
{
	size_t *block = obtain(size + 16);

	*block = size;
	return block + 2;
}

NOINLINE static struct node *new_node(long data)
{
	struct node *node = malloc(sizeof(*node));

	node->data[0] = data;
	return node;
}

NOINLINE static int keep_more(size_t size)
{
	char *block = realloc(kept, kept_size + size);

	if (!block)
		return -1;
	kept = block;
	kept_size += size;
	return 0;
}

/* Gets its block through a pointer. */
NOINLINE static void *obtain_aligned(size_t size)
{
	void *block;

	if (posix_memalign(&block, 64, size))
		return NULL;
	return block;
}

NOINLINE static void *same(void *block)
{
	return block;
}

NOINLINE static void *obtain_same(size_t size)
{
	return same(obtain(size));
}

/* What fills the block returns it, too: the compiler uses that result. */
NOINLINE static void *obtain_filled(size_t size)
{
	void *block = malloc(size);

	if (!block)
		abort();
	memset(block, 1, size);
	return block;
}

NOINLINE static char *obtain_copy(size_t size, const char *text)
{
	char *block = malloc(size);

	if (!block)
		abort();
	return strcpy(block, text);
}

/* stpcpy returns the end of the copy. */
NOINLINE static char *end_of_copy(size_t size, const char *text)
{
	char *block = malloc(size);

	if (!block)
		abort();
	return stpcpy(block, text);
}

#define USER(name, size)                                           \
	NOINLINE static void name(void)                            \
	{                                                          \
		struct node *node = new_node(size);                \
                                                                   \
		node->next = nodes;                                \
		nodes = node;                                      \
		lost = obtain(size);                               \
		lost = obtain_counted(size + 5);                   \
		lost = NULL;                                       \
		keep_more(size);                                   \
	}

USER(user_a, 1031)
USER(user_b, 2053)
USER(user_c, 3079)
USER(user_d, 4099)
USER(user_e, 5147)

NOINLINE static void single_loss(void)
{
	lost = obtain_counted(777);
	lost = NULL;
}

NOINLINE static void single_filled(void)
{
	lost = obtain_filled(777);
	lost = NULL;
}

NOINLINE static void single_node(void)
{
	new_node(3);
}

int main(int argc, char **argv)
{
	lost = argc > 99 ? obtain_aligned(argc) : argc > 98 ? obtain_same(argc) : NULL;
	lost = argc > 97 ? obtain_copy(argc, argv[1]) : NULL;
	lost = argc > 96 ? end_of_copy(argc, argv[1]) : NULL;
	lost = argc > 95 ? obtain_filled(argc) : NULL;
	bool few = argc > 1 && !strcmp(argv[1], "few"), node = argc > 1 && !strcmp(argv[1], "node");
	bool filled = argc > 1 && !strcmp(argv[1], "filled");

	parse_now(argc, argv);
	stage("ready");
	if (few) {
		single_loss();
	} else if (node) {
		single_node();
	} else if (filled) {
		single_filled();
	} else {
		user_a();
		user_b();
		user_c();
		user_d();
		user_e();
	}
	stage("done");
	return 0;
}
