// build: -O1 -g
// SPDX-License-Identifier: Apache-2.0
/*
 * Memory that a careless reader would fill: 4 GB with three written pages, 1 GB of a shared file with
 * two, a page behind an inaccessible one, data without read permission, data protected after it was
 * written, a page of zeros that was read only, and a guard region where the kernel has them. Each
 * written page begins with the word that is its own address. The answers are the addresses.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "answers.h"

#define PAGE 4096L
#define GB (1L << 30)
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static char *map(long size, int protection, int flags, int file)
{
	char *start = mmap(NULL, size, protection, flags, file, 0);

	if (start == MAP_FAILED)
		_exit(113);
	return start;
}

static char *anonymous(long size)
{
	return map(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
}

static void write_page(const char *key, char *at)
{
	*(long *)at = (long)at;
	answer(key, (long)at);
}

int main(int argc, char **argv)
{
	char *sparse = anonymous(4 * GB), *guarded = anonymous(3 * PAGE), *hidden = anonymous(PAGE);
	char *constant = anonymous(2 * PAGE), *zeros = anonymous(PAGE), *installed = anonymous(4 * PAGE);
	int file = memfd_create("holes", 0);
	char *shared;

	parse_now(argc, argv);
	madvise(sparse, 4 * GB, MADV_NOHUGEPAGE);
	write_page("sparse_first", sparse);
	write_page("sparse_middle", sparse + 2 * GB);
	write_page("sparse_last", sparse + 4 * GB - PAGE);
	if (ftruncate(file, GB))
		return 114;
	shared = map(GB, PROT_READ | PROT_WRITE, MAP_SHARED, file);
	write_page("shared_first", shared);
	write_page("shared_last", shared + GB - PAGE);
	mprotect(guarded, PAGE, PROT_NONE);
	write_page("behind_guard", guarded + PAGE);
	write_page("hidden", hidden);
	mprotect(hidden, PAGE, PROT_NONE);
	write_page("constant", constant);
	mprotect(constant, 2 * PAGE, PROT_READ);
	answer("zeros", (long)zeros + *(volatile char *)zeros);
	write_page("before_installed", installed);
	write_page("behind_installed", installed + 3 * PAGE);
	if (!madvise(installed + PAGE, PAGE, MADV_GUARD_INSTALL))
		answer("installed", (long)installed + PAGE);
	stage("ready");
	answer("unchanged", *(long *)sparse == (long)sparse);
	stage("done");
	return 0;
}
