/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small service that leaks, for `make demo`: it answers simulated requests until it is stopped.
 * Its cache is bounded and frees what it drops; its sessions are lost and never freed.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CACHE_SLOTS 64
#define REQUESTS_PER_SECOND 500
#define REQUESTS_PER_LOGIN 4

struct session {
	char user[32];
	char token[200];
};

static volatile sig_atomic_t stopped;
static char *cache[CACHE_SLOTS];
static struct session *latest;

static void stop(int signal)
{
	stopped = signal;
}

/* The leak: the pointer to the previous session is overwritten, and the session never freed. */
__attribute__((noinline)) static void remember_session(unsigned request)
{
	latest = malloc(sizeof(*latest));
	if (latest)
		snprintf(latest->user, sizeof(latest->user), "user-%u", request);
}

/* Not a leak: a page is freed when another one takes its slot. */
__attribute__((noinline)) static void cache_page(unsigned request, const char *page)
{
	char **slot = &cache[request % CACHE_SLOTS];

	free(*slot);
	*slot = malloc(strlen(page) + 1);
	if (*slot)
		strcpy(*slot, page);
}

__attribute__((noinline)) static void handle_request(unsigned request)
{
	size_t size = 256 + request % 1024;
	char *page = malloc(size);

	if (!page)
		return;
	snprintf(page, size, "<p>answer to request %u</p>", request);
	cache_page(request, page);
	if (request % REQUESTS_PER_LOGIN == 0)
		remember_session(request);
	free(page);
}

int main(void)
{
	const struct timespec pause = {0, 1000000000L / REQUESTS_PER_SECOND};

	signal(SIGTERM, stop);
	signal(SIGINT, stop);
	puts("ready");
	fflush(stdout);
	for (unsigned request = 0; !stopped; request++) {
		handle_request(request);
		nanosleep(&pause, NULL);
	}
	return 0;
}
