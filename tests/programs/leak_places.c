// build: -O1 -g -fno-inline -fno-optimize-sibling-calls
// SPDX-License-Identifier: Apache-2.0
/*
 * Leaks in the usual places: in main, in a loop, in a called function, in a chain of realloc, and
 * none where all is freed; and blocks of 1,024 bytes, the size of a stdio buffer. `NAME_line` is the
 * line that allocates the last time.
 */
#include "blocks.h"

#define ROUNDS 5
#define STEPS 6

static void *volatile kept;

#define HERE(name) answer(name "_line", __LINE__)

static void leak_in_called_function(void)
{
	char *text = BLOCK("in-called", 100, DEFINITE); HERE("in-called");

	strcpy(text, "nobody frees this");
}

static void leak_in_loop(void)
{
	for (int i = 0; i < ROUNDS; i++) {
		(void)!BLOCK("in-loop", 200 + i, DEFINITE); HERE("in-loop");
	}
}

static void leak_by_realloc(void)
{
	char *text = malloc(300);

	for (int i = 1; i < STEPS; i++)
		text = realloc(text, 300 * (i + 1));
	text = realloc(text, 3000); HERE("by-realloc");
	noted(text, "by-realloc", 3000, DEFINITE);
}

static void free_all(void)
{
	void *blocks[ROUNDS];

	for (int i = 0; i < ROUNDS; i++)
		blocks[i] = malloc(400 + i);
	for (int i = 0; i < ROUNDS; i++)
		free(blocks[i]);
}

static void blocks_of_a_buffers_size(void)
{
	(void)!BLOCK("size-1024-lost", 1024, DEFINITE); HERE("size-1024-lost");
	kept = BLOCK("size-1024-kept", 1024, REACHABLE); HERE("size-1024-kept");
	free(malloc(1024));
}

int main(int argc, char **argv)
{
	parse_now(argc, argv);
	stage("ready");
	(void)!BLOCK("in-main", 500, DEFINITE); HERE("in-main");
	leak_in_called_function();
	leak_in_loop();
	leak_by_realloc();
	free_all();
	blocks_of_a_buffers_size();
	for (int i = 0; i < named_count; i++)
		print_block(&named[i]);
	forget();
	stage("done");
	return 0;
}
