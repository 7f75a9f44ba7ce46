// SPDX-License-Identifier: Apache-2.0
// A service whose leak is in a library.

#include <stdio.h>

long store_request(long number);

int main(void)
{
	long requests, number = 0, held = 0;

	while (scanf("%ld", &requests) == 1) {
		for (; requests > 0; requests--)
			held += store_request(number++);
		printf("held %ld\n", held);
		fflush(stdout);
	}
	return 0;
}
