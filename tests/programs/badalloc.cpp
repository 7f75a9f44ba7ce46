// build: -O1 -g -std=c++17
// SPDX-License-Identifier: Apache-2.0
/* operator new that fails: its exception unwinds through the allocator's own frame. */
#include <new>

#include "answers.h"

int main(int argc, char **argv)
{
	const long attempts = 101;
	volatile size_t huge = size_t(1) << 62;
	long caught = 0;

	parse_now(argc, argv);
	stage("ready");
	for (long i = 0; i < attempts; i++) {
		try {
			delete[] new char[huge];
		} catch (const std::bad_alloc &) {
			caught++;
		}
	}
	answer("thrown", attempts);
	answer("caught", caught);
	stage("done");
	return 0;
}
