// build: -O1 -g -fno-omit-frame-pointer
// SPDX-License-Identifier: Apache-2.0
/*
 * Requests whose blocks are freed in one function, but for some that it forgets; connections that
 * are closed in one function or dropped in another; buffers that each user frees at once through a
 * function of the program, as `xfree` does.
 */
#include <time.h>

#include "answers.h"

#define REQUESTS 1009
#define FORGOTTEN 31 /* one request of so many */
#define WINDOW 7 /* requests at a time */
#define CONNECTIONS 401
#define DROPPED 10
#define BUFFERS 211

struct block {
	long began_ns;
	char data[120];
};

static struct block *pending[WINDOW];
static struct block *volatile connection;
static void *volatile buffer;
static long done, lifetime_ns, forgotten, dropped;

static long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

NOINLINE static struct block *begin_request(void)
{
	struct block *block = malloc(sizeof(*block));

	block->began_ns = now_ns();
	return block;
}

NOINLINE static void request_done(struct block *block, long number)
{
	if (number % FORGOTTEN == 0) {
		forgotten++;
		return;
	}
	lifetime_ns += now_ns() - block->began_ns;
	done++;
	free(block); /* here */
}

NOINLINE static void open_connection(void)
{
	connection = malloc(200);
}

NOINLINE static void close_connection(void)
{
	free(connection);
	connection = NULL;
}

NOINLINE static void drop_connection(void)
{
	dropped++;
	free(connection);
	connection = NULL;
}

NOINLINE static void release_it(void *block)
{
	free(block);
	buffer = NULL;
}

#define USER(name, size)                      \
	NOINLINE static void name(int leaks)  \
	{                                     \
		buffer = malloc(size);        \
		if (!leaks)                   \
			release_it(buffer);   \
		buffer = NULL;                \
	}

USER(user_a, 33)
USER(user_b, 65)
USER(user_c, 97)
USER(user_d, 129)
USER(user_e, 161)

int main(int argc, char **argv)
{
	struct timespec rest = { .tv_nsec = 200000 };

	parse_now(argc, argv);
	stage("ready");
	for (long i = 0; i < REQUESTS + WINDOW; i++) {
		struct block *old = pending[i % WINDOW];

		pending[i % WINDOW] = i < REQUESTS ? begin_request() : NULL;
		if (old)
			request_done(old, i - WINDOW);
		if (i % 8 == 0)
			nanosleep(&rest, NULL);
	}
	for (int i = 0; i <= CONNECTIONS; i++) {
		open_connection();
		if (i == CONNECTIONS)
			break;
		if (i % DROPPED == 0)
			drop_connection();
		else
			close_connection();
	}
	for (int i = 0; i <= BUFFERS; i++) {
		user_a(i == BUFFERS);
		user_b(i == BUFFERS);
		user_c(i == BUFFERS);
		user_d(i == BUFFERS);
		user_e(i == BUFFERS);
	}
	answer("requests_done", done);
	answer("mean_us", lifetime_ns / done / 1000);
	answer("requests_forgotten", forgotten);
	answer("closed", CONNECTIONS - dropped);
	answer("connections", CONNECTIONS);
	answer("buffers", BUFFERS);
	stage("done");
	return 0;
}
