// SPDX-License-Identifier: Apache-2.0
// Loses once what each of some C library functions hands to its caller.

#define _GNU_SOURCE
#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long lose_strdup(void)
{
	return malloc_usable_size(strdup("a name that nobody frees"));
}

static long lose_asprintf(void)
{
	char *text = NULL;

	return asprintf(&text, "request %d", 17) > 0 ? (long)malloc_usable_size(text) : 0;
}

static long lose_opendir(void)
{
	return malloc_usable_size(opendir("/"));
}

static long lose_realpath(void)
{
	return malloc_usable_size(realpath("/proc/self", NULL));
}

int main(void)
{
	long requests, served = 0, held = 0;

	while (scanf("%ld", &requests) == 1) {
		for (; requests > 0; requests--)
			served++;
		if (served > 2000 && held == 0)
			held = lose_strdup() + lose_asprintf() + lose_opendir() + lose_realpath();
		printf("held %ld\n", held);
		fflush(stdout);
	}
	return 0;
}
