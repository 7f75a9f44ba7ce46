// build: -O2 -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Makes calls that block until another thread ends them: that one waits for a byte on standard input,
 * then until the first thread sleeps in its call. `calls` says how many there are.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "answers.h"

#define CALLS 6

static int ends[2], word;
static long first;

static void read_one(void)
{
	char byte;

	if (read(ends[0], &byte, 1) != 1)
		_exit(113);
}

/* By a call that no other function makes. */
static void take_byte(void)
{
	struct iovec one = { .iov_base = &word, .iov_len = 1 };

	readv(ends[0], &one, 1);
}

static void poll_one(void)
{
	struct pollfd wanted = { .fd = ends[0], .events = POLLIN };

	poll(&wanted, 1, -1);
	take_byte();
}

static void wait_epoll(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = epoll_create1(0);

	epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
	epoll_wait(epoll, &event, 3, -1);
	take_byte();
}

static void receive(void)
{
	char byte;

	recvfrom(ends[0], &byte, 1, 0, NULL, NULL);
}

static void wait_futex(void)
{
	word = 5;
	syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 5, NULL, NULL, 0);
}

static void wait_child(void)
{
	pid_t child = fork();
	int status;

	if (!child) {
		read_one();
		_exit(7);
	}
	waitpid(child, &status, 0);
}

static void (*const calls[CALLS])(void) = {
	read_one, poll_one, wait_epoll, receive, wait_futex, wait_child,
};

/* The first thread is in a call, and no longer in its own code. */
static bool is_blocked(void)
{
	char path[64], line[64] = "";
	int file;

	snprintf(path, sizeof(path), "/proc/self/task/%ld/stat", first);
	file = open(path, O_RDONLY);
	if (file < 0 || read(file, line, sizeof(line) - 1) < 0)
		_exit(114);
	close(file);
	return strstr(line, ") S");
}

static void *end_calls(void *unused)
{
	for (int i = 0; i < CALLS; i++) {
		fd_set input;

		FD_ZERO(&input);
		FD_SET(STDIN_FILENO, &input);
		select(STDIN_FILENO + 1, &input, NULL, NULL, NULL);
		wait_for_byte();
		while (!is_blocked())
			sched_yield();
		if (calls[i] == wait_futex)
			syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
		else if (write(ends[1], "x", 1) != 1)
			_exit(115);
	}
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	parse_now(argc, argv);
	first = syscall(SYS_gettid);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		return 1;
	stage("ready");
	pthread_create(&thread, NULL, end_calls, NULL);
	for (int i = 0; i < CALLS; i++)
		calls[i]();
	return 0;
}
