// build: -O1 -g -pthread -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * dies exit|kill|abort|exec: threads wait in calls of four kinds. At the end of stdin the process
 * ends, or another thread execs /bin/true. None of the calls returns.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "answers.h"

#define EACH 3

static int pair[2], polled;
static volatile pid_t tids[4 * EACH];

/* The kernel says which call a thread is blocked in, or `running`. */
static bool is_in(pid_t tid, long nr)
{
	char path[64], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		_exit(113);
	close(fd);
	return strtol(text, NULL, 10) == nr && text[0] != 'r';
}

static const long calls[] = {SYS_epoll_pwait, SYS_ppoll, SYS_recvfrom, SYS_rt_sigsuspend};

static void *wait_for_ever(void *argument)
{
	long i = (long)argument;
	struct epoll_event event;
	struct pollfd one = {.fd = pair[0], .events = POLLIN};
	struct timespec hour = {3600, 0};
	sigset_t none;
	char byte;

	sigfillset(&none);
	tids[i] = gettid();
	if (i % 4 == 0)
		epoll_pwait(polled, &event, 1, -1, &none);
	else if (i % 4 == 1)
		ppoll(&one, 1, &hour, NULL);
	else if (i % 4 == 2)
		recv(pair[0], &byte, 1, 0);
	else
		sigsuspend(&none);
	return NULL;
}

static void *exec_true(void *argument)
{
	(void)argument;
	execl("/bin/true", "true", NULL);
	_exit(114);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "exit";
	pthread_t thread;

	parse_now(argc, argv);
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	polled = epoll_create1(0);
	stage("ready");
	for (long i = 0; i < 4 * EACH; i++)
		pthread_create(&thread, NULL, wait_for_ever, (void *)i);
	for (int i = 0; i < 4 * EACH; i++) {
		while (!tids[i] || !is_in(tids[i], calls[i % 4]))
			sched_yield();
	}
	answer("each", EACH);
	stage("waiting");
	if (!strcmp(how, "kill"))
		kill(getpid(), SIGKILL);
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "exec")) {
		pthread_create(&thread, NULL, exec_true, NULL);
		pthread_join(thread, NULL);
	}
	return 0;
}
