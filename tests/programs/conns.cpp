// build: -O1 -g
// SPDX-License-Identifier: Apache-2.0
/*
 * A server that misses a `delete`: handle() loses LOST connections, and with each the buffer that
 * its constructor allocated. It keeps another one.
 */
#include "answers.h"

#define LOST 60
#define BUFFER 300

struct Conn {
	char *buffer;
	Conn();
};

static Conn *volatile kept;
static Conn *volatile conn;

NOINLINE Conn::Conn() : buffer(new char[BUFFER])
{
	memset(buffer, 1, BUFFER);
}

NOINLINE static void handle()
{
	conn = new Conn;
	conn = nullptr;
}

/* Overwrites what the calls before have left on the stack and in registers. */
NOINLINE static void forget()
{
	volatile char stack[4096];

	for (size_t i = 0; i < sizeof(stack); i++)
		stack[i] = 0;
}

int main()
{
	kept = new Conn;
	for (int i = 0; i < LOST; i++)
		handle();
	forget();
	return 0;
}
