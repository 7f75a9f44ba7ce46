// build: -O1 -g
// SPDX-License-Identifier: Apache-2.0
/* regrows: its heap grows by 16 MB and shrinks again, until it is killed. */
#include "answers.h"

#define BLOCKS 256
#define SIZE 65000 /* too small to be mapped on its own */

static char *volatile blocks[BLOCKS];

int main(void)
{
	stage("ready");
	answer("blocks", BLOCKS);
	say("done\n", 5);
	for (;;) {
		for (int i = 0; i < BLOCKS; i++) {
			blocks[i] = malloc(SIZE);
			blocks[i][0] = 1;
		}
		for (int i = 0; i < BLOCKS; i++)
			free(blocks[i]);
	}
}
