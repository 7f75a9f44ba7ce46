// build: -O1 -g -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Sixteen threads, each blocked in another system call, all of which a signal would end with EINTR.
 * Nobody sends one. `returned` counts the calls that returned nevertheless, `interrupted` those with
 * EINTR. The answers before `ready` are the threads' numbers, by the name of their call.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "answers.h"

static const struct timespec hour = {.tv_sec = 3600};
static int empty_pipe[2], pair[2], listening, locked, other_open, semaphores, queue, epoll;
static aio_context_t requests;
static pid_t child;
static atomic_long returned, interrupted;

static long in_epoll_wait(void)
{
	struct epoll_event event;

	return epoll_wait(epoll, &event, 1, -1);
}

static long in_semop(void)
{
	struct sembuf operation = {.sem_op = -1};

	return semop(semaphores, &operation, 1);
}

static long in_sigtimedwait(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	return sigtimedwait(&set, NULL, &hour);
}

static long in_poll(void)
{
	struct pollfd readable = {.fd = empty_pipe[0], .events = POLLIN};

	return poll(&readable, 1, -1);
}

static long in_select(void)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(empty_pipe[0], &set);
	return select(empty_pipe[0] + 1, &set, NULL, NULL, NULL);
}

static long in_nanosleep(void)
{
	return syscall(SYS_nanosleep, &hour, NULL);
}

static long in_clock_nanosleep(void)
{
	return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &hour, NULL);
}

static long in_futex(void)
{
	static int word;

	return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static long in_read(void)
{
	char byte;

	return read(empty_pipe[0], &byte, 1);
}

static long in_accept(void)
{
	return accept(listening, NULL, NULL);
}

static long in_recv(void)
{
	char byte;

	return recv(pair[0], &byte, 1, 0);
}

static long in_msgrcv(void)
{
	struct {
		long type;
		char text[8];
	} message;

	return msgrcv(queue, &message, sizeof(message.text), 0, 0);
}

static long in_sigsuspend(void)
{
	sigset_t set;

	sigemptyset(&set);
	return sigsuspend(&set);
}

static long in_wait4(void)
{
	return wait4(child, NULL, 0, NULL);
}

static long in_flock(void)
{
	return flock(other_open, LOCK_EX);
}

static long in_io_getevents(void)
{
	struct io_event event;

	return syscall(SYS_io_getevents, requests, 1, 1, &event, NULL);
}

static const struct call {
	const char *name;
	long (*make)(void);
} calls[] = {
	{"epoll_wait", in_epoll_wait},
	{"semop", in_semop},
	{"sigtimedwait", in_sigtimedwait},
	{"poll", in_poll},
	{"select", in_select},
	{"nanosleep", in_nanosleep},
	{"clock_nanosleep", in_clock_nanosleep},
	{"futex", in_futex},
	{"read", in_read},
	{"accept", in_accept},
	{"recv", in_recv},
	{"msgrcv", in_msgrcv},
	{"sigsuspend", in_sigsuspend},
	{"wait4", in_wait4},
	{"flock", in_flock},
	{"io_getevents", in_io_getevents},
};
#define CALLS (sizeof(calls) / sizeof(calls[0]))

static volatile long tids[CALLS];

static void *block(void *argument)
{
	const struct call *call = argument;

	tids[call - calls] = gettid();
	for (;;) {
		long result = call->make();

		interrupted += result < 0 && errno == EINTR;
		returned++;
		if (result < 0 && errno != EINTR)
			_exit(113);
	}
}

/* The semaphores and the queue end with the namespace. */
static void set_up(void)
{
	struct sockaddr_un nameless = {.sun_family = AF_UNIX};
	sigset_t awaited;
	char path[64];

	sigemptyset(&awaited);
	sigaddset(&awaited, SIGUSR2);
	sigprocmask(SIG_BLOCK, &awaited, NULL);
	if (unshare(CLONE_NEWIPC) || pipe(empty_pipe) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		_exit(114);
	listening = socket(AF_UNIX, SOCK_STREAM, 0);
	bind(listening, (struct sockaddr *)&nameless, sizeof(sa_family_t));
	listen(listening, 1);
	epoll = epoll_create1(0);
	semaphores = semget(IPC_PRIVATE, 1, 0600);
	queue = msgget(IPC_PRIVATE, 0600);
	locked = memfd_create("locked", 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", locked);
	other_open = open(path, O_RDWR);
	flock(locked, LOCK_EX);
	if (syscall(SYS_io_setup, 1, &requests))
		_exit(115);
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
}

int main(int argc, char **argv)
{
	pthread_t thread;

	parse_now(argc, argv);
	set_up();
	for (size_t i = 0; i < CALLS; i++) {
		pthread_create(&thread, NULL, block, (void *)&calls[i]);
		while (!tids[i])
			;
		answer(calls[i].name, tids[i]);
	}
	stage("ready");
	answer("returned", returned);
	answer("interrupted", interrupted);
	stage("done");
	_exit(0);
}
