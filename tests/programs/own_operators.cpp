// build: -g -O0 -pthread -w
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replaces operator new and delete by ones whose blocks have a header, so that malloc and free see
 * other addresses. Many blocks are released in order; with an argument of 1, one of them twice.
 */
#include "answers.h"

#include <new>

enum { HEADER = 32, ROUNDS = 101, BLOCKS = 13 };

void *operator new(size_t size)
{
	char *block = (char *)malloc(HEADER + size);

	if (!block)
		throw std::bad_alloc();
	return block + HEADER;
}

void operator delete(void *pointer) noexcept
{
	if (pointer)
		free((char *)pointer - HEADER);
}

void operator delete(void *pointer, size_t) noexcept
{
	operator delete(pointer);
}

struct item {
	char bytes[40];
};

NOINLINE static void delete_again(item *freed)
{
	delete freed;
}

int main(int argc, char **argv)
{
	item *items[BLOCKS];

	parse_now(argc, argv);
	stage("ready");
	for (int round = 0; round < ROUNDS; round++) {
		for (item *&each : items)
			each = new item;
		for (item *each : items)
			delete each;
	}
	answer("blocks", ROUNDS * BLOCKS);
	stage("done");
	if (number(argc, argv, 1, 0))
		delete_again(items[0]);
	return 0;
}
