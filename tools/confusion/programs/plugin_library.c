// SPDX-License-Identifier: Apache-2.0
// The library of plugin.c: it loses each request.

#include <stdlib.h>
#include <string.h>

long store_request(long number)
{
	size_t size = 300 + number % 31;
	char *request = malloc(size);

	memset(request, 1, size);
	return size;
}
