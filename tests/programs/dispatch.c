// build: -O1 -g -pthread -static
// SPDX-License-Identifier: Apache-2.0
/*
 * dispatch early|late: Syscall User Dispatch, switched on in a second thread before `ready`,
 * or after it. With it on, the thread allocates and makes one system call, which the kernel must
 * hand to the program (`dispatched`). Any other call that reaches the handler is one that the
 * program did not make (`foreign`).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "answers.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
#define BLOCKS 101

static volatile char selector;
static volatile long dispatched, foreign;
static void *volatile blocks[BLOCKS];
static pthread_barrier_t barrier;
static char stack[1 << 16];
static bool is_early;

/* Returns through the system call of the C library, which the dispatch would take too. */
static void take(int number, siginfo_t *info, void *context)
{
	ucontext_t *at = context;

	selector = 0;
	if (info->si_syscall == SYS_getppid) {
		dispatched++;
		at->uc_mcontext.gregs[REG_RAX] = 17;
	} else {
		foreign++;
	}
}

static void dispatch_on(void)
{
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector))
		_exit(113);
}

static void *work(void *argument)
{
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };

	sigaltstack(&alternate, NULL);
	blocks[0] = malloc(1); /* creates the thread's arena */
	free(blocks[0]);
	if (is_early)
		dispatch_on();
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	if (!is_early)
		dispatch_on();
	selector = 1;
	for (int i = 0; i < BLOCKS; i++)
		blocks[i] = malloc(40 + i % 7);
	for (int i = 0; i < BLOCKS; i++)
		free(blocks[i]);
	if (syscall(SYS_getppid) != 17) /* the handler switches the selector off */
		_exit(114);
	pthread_barrier_wait(&barrier);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = take, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	pthread_t thread;

	parse_now(argc, argv);
	is_early = argc > 1 && !strcmp(argv[1], "early");
	sigaction(SIGSYS, &action, NULL);
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&thread, NULL, work, NULL);
	pthread_barrier_wait(&barrier);
	stage("ready");
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	answer("dispatched", dispatched);
	answer("foreign", foreign);
	answer("blocks", BLOCKS);
	stage("done");
	return 0;
}
