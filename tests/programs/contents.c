// build: -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * Writes blocks to /dev/null, each with its own number in its first bytes. Arguments: how many, and
 * of which size.
 */
#include <fcntl.h>

#include "answers.h"

int main(int argc, char **argv)
{
	static char block[1 << 16];
	long writes = number(argc, argv, 1, 300), size = number(argc, argv, 2, 4096);
	int fd = open("/dev/null", O_WRONLY);

	parse_now(argc, argv);
	memset(block, '.', sizeof(block)); /* maps its pages */
	stage("ready");
	for (long i = 0; i < writes; i++) {
		snprintf(block, sizeof(block), "block %ld", i);
		if (pwrite(fd, block, size, i) != size)
			return 1;
	}
	answer("pwrite64", writes);
	stage("done");
	return 0;
}
