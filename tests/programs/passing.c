// build: -O2 -g -fPIC -shared -fno-optimize-sibling-calls
// SPDX-License-Identifier: Apache-2.0
/* A library with one function, NAME, which calls its argument: see reopens.c. */

int NAME(int (*function)(int), int argument)
{
	return function(argument);
}
