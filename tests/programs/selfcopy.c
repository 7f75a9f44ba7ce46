// build: -O1 -g -static
// SPDX-License-Identifier: Apache-2.0
/*
 * selfcopy early|late: moves the pages of malloc's code to memory of no file, as programs do to get
 * huge pages, before `ready` or after it, and allocates.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "answers.h"

#define PAGES (4 * 4096)
#define BLOCKS 101

static void *volatile blocks[BLOCKS];

static void copy_code(void)
{
	char *page = (char *)((unsigned long)malloc & -4096);
	char *copy = mmap(NULL, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memcpy(copy, page, PAGES);
	if (mprotect(copy, PAGES, PROT_READ | PROT_EXEC) ||
	    mremap(copy, PAGES, PAGES, MREMAP_MAYMOVE | MREMAP_FIXED, page) != page)
		_exit(113);
}

int main(int argc, char **argv)
{
	bool is_early = argc > 1 && !strcmp(argv[1], "early");

	parse_now(argc, argv);
	if (is_early)
		copy_code();
	stage("ready");
	if (!is_early)
		copy_code();
	stage("copied");
	for (int i = 0; i < BLOCKS; i++)
		blocks[i] = malloc(40 + i % 7);
	answer("blocks", BLOCKS);
	stage("done");
	return 0;
}
