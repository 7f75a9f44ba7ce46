// build: -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * Calls that signals interrupt: made again by the kernel (SA_RESTART, stops), ended with EINTR, and
 * left by siglongjmp(). Each is one call here, however often the kernel enters it. With the argument
 * `spin` it makes no call after one that ended with EINTR.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "answers.h"

#define SIGNALS 5
#define STOPS 3
#define EINTRS 7

static volatile sig_atomic_t signals;
static int pair[2];
static sigjmp_buf before;

static void count(int signal)
{
	(void)signal;
	if (++signals == SIGNALS) /* ends the receive that is interrupted for the last time */
		send(pair[1], "x", 1, 0);
}

static void jump(int signal)
{
	(void)signal;
	siglongjmp(before, 1);
}

static void on_alarm(void (*handler)(int), int flags, long every_us)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
	struct itimerval timer = {{0, every_us}, {0, every_us ? every_us : 20000}};

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

static void no_alarm(void)
{
	struct itimerval none = {{0, 0}, {0, 0}};

	setitimer(ITIMER_REAL, &none, NULL);
}

/* A child that its parent stops inside poll() several times. */
static long stopped_poll(void)
{
	int wake[2], status;
	char byte;
	pid_t child;

	if (pipe(wake))
		return -1;
	child = fork();
	if (child == 0) {
		struct pollfd one = {.fd = wake[0], .events = POLLIN};

		_exit(poll(&one, 1, 60000) == 1 && read(wake[0], &byte, 1) == 1 ? 0 : 1);
	}
	for (int i = 0; i < STOPS; i++) {
		struct timespec pause = {0, 20000000};

		nanosleep(&pause, NULL); /* the child gets into poll(), or it is stopped before */
		kill(child, SIGSTOP);
		waitpid(child, &status, WUNTRACED);
		kill(child, SIGCONT);
	}
	if (write(wake[1], "x", 1) != 1)
		return -1;
	waitpid(child, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
	volatile long received = 0, pauses = 0, slept = 0;
	char byte;

	parse_now(argc, argv);
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	stage("ready");
	if (argc > 1 && !strcmp(argv[1], "spin")) {
		on_alarm(count, 0, 0);
		pause();
		for (;;)
			;
	}
	on_alarm(count, SA_RESTART, 10000);
	received += recv(pair[0], &byte, 1, 0) == 1;
	no_alarm();
	for (int i = 0; i < EINTRS; i++) {
		on_alarm(count, 0, 0);
		pauses += pause() < 0 && errno == EINTR;
	}
	for (int i = 0; i < EINTRS; i++) {
		struct timespec second = {60, 0};

		on_alarm(count, SA_RESTART, 0);
		slept += nanosleep(&second, NULL) < 0 && errno == EINTR;
	}
	if (sigsetjmp(before, 1) == 0) {
		on_alarm(jump, 0, 0);
		recv(pair[0], &byte, 1, 0);
	}
	answer("polls", stopped_poll());
	answer("recvs", received);
	answer("pauses", pauses);
	answer("interrupted_sleeps", slept);
	answer("sleeps", slept + STOPS);
	answer("signals", signals);
	stage("done");
	return 0;
}
