// build: -O1 -g -std=c++17
// SPDX-License-Identifier: Apache-2.0
/*
 * operator new fails, and its exception unwinds through the allocator's own frame. Afterwards the
 * program frees blocks that it had allocated before.
 */
#include <new>

#include "answers.h"

static void *blocks[103];

NOINLINE static void hold()
{
	for (void *&block : blocks)
		block = malloc(211);
}

NOINLINE static void release()
{
	for (void *block : blocks)
		free(block);
}

int main(int argc, char **argv)
{
	const long attempts = 101;
	volatile size_t huge = size_t(1) << 62;
	long caught = 0;

	parse_now(argc, argv);
	stage("ready");
	hold();
	for (long i = 0; i < attempts; i++) {
		try {
			delete[] new char[huge];
		} catch (const std::bad_alloc &) {
			caught++;
		}
	}
	release();
	answer("frees", sizeof(blocks) / sizeof(*blocks));
	answer("thrown", attempts);
	answer("caught", caught);
	stage("done");
	return 0;
}
