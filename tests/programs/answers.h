/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol of a program with known answers: it prints `ready`, waits for a byte on stdin, does
 * its work, prints `key value` lines and `done`, waits for a second byte and exits. It does not
 * wait at the end of stdin or if an argument is `now`.
 *
 * Nothing here allocates: blocks of stdio streams or glibc's dprintf would be counted too.
 */
#ifndef ANSWERS_H
#define ANSWERS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

static bool never_wait;

static inline void parse_now(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		never_wait |= strcmp(argv[i], "now") == 0;
}

/* The number in argument i, or a default. */
static inline long number(int argc, char **argv, int i, long otherwise)
{
	return i < argc && strcmp(argv[i], "now") ? strtol(argv[i], NULL, 10) : otherwise;
}

static inline void wait_for_byte(void)
{
	char byte;

	if (!never_wait && read(STDIN_FILENO, &byte, 1) < 0)
		_exit(111);
}

/* One write per line, so that lines of several processes do not mix. */
static inline void say(const char *line, int length)
{
	if (write(STDOUT_FILENO, line, length) != length)
		_exit(112);
}

static inline void stage(const char *name)
{
	char line[64];

	say(line, snprintf(line, sizeof(line), "%s\n", name));
	wait_for_byte();
}

static inline void answer(const char *key, long value)
{
	char line[128];

	say(line, snprintf(line, sizeof(line), "%s %ld\n", key, value));
}

#endif
