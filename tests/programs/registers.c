// build: -O1 -g -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Threads that hold a value in one register alone, r12 or x19: blocked in four system calls, running
 * in user code, in a signal handler on a stack of its own, and twelve more blocked ones. For each, the
 * answers NAME_tid and NAME_value come before `ready`, and handler_stack, handler_stack_size. One
 * more thread counts in that register, and stores what it has counted at the address `counter`.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>

#include "answers.h"

#define MORE 12
#define NAMED 7
#define THREADS (NAMED + MORE)
#define HIDDEN_BY 0x5a5a5a5a5a5a5a5aUL
#define STACK_SIZE 65536

static const char *const names[] = {"read", "futex", "nanosleep", "epoll", "spin", "handler", "count"};
static struct {
	char name[24];
	volatile long tid;
	unsigned long hidden;
} threads[THREADS];
static char handler_stack[STACK_SIZE];
static volatile int never;
static volatile unsigned long counted;
static int empty_pipe[2];

/* A system call. No instruction stores the value, which is in the register alone. */
static void call_with(unsigned long hidden, long number, long a, long b, long c, long d)
{
#if defined(__x86_64__)
	register long fourth asm("r10") = d;
	register long fifth asm("r8") = 0;

	asm volatile("mov %[hidden], %%r12\n\t"
		     "mov %[by], %%rax\n\t"
		     "xor %%rax, %%r12\n\t"
		     "mov %[number], %%rax\n\t"
		     "xor %[hidden], %[hidden]\n\t"
		     "syscall\n\t"
		     "xor %%r12, %%r12"
		     : [hidden] "+b"(hidden)
		     : [by] "i"(HIDDEN_BY), [number] "r"(number), "D"(a), "S"(b), "d"(c), "r"(fourth),
		       "r"(fifth)
		     : "rax", "rcx", "r11", "r12", "memory");
#else
	register long first asm("x0") = a;
	register long second asm("x1") = b;
	register long third asm("x2") = c;
	register long fourth asm("x3") = d;
	register long fifth asm("x4") = 0;
	register long call asm("x8") = number;

	asm volatile("eor x19, %[hidden], %[by]\n\t"
		     "svc #0\n\t"
		     "mov x19, xzr"
		     : "+r"(first)
		     : [hidden] "r"(hidden), [by] "r"(HIDDEN_BY), "r"(second), "r"(third), "r"(fourth),
		       "r"(fifth), "r"(call)
		     : "x19", "memory");
#endif
}

static void spin_with(unsigned long hidden)
{
#if defined(__x86_64__)
	asm volatile("mov %[by], %%r12\n\t"
		     "xor %[hidden], %%r12\n"
		     "1:\tcmpl $0, %[never]\n\t"
		     "je 1b\n\t"
		     "xor %%r12, %%r12"
		     : : [by] "i"(HIDDEN_BY), [hidden] "r"(hidden), [never] "m"(never) : "r12", "memory");
#else
	asm volatile("eor x19, %[hidden], %[by]\n"
		     "1:\tldr w9, %[never]\n\t"
		     "cbz w9, 1b\n\t"
		     "mov x19, xzr"
		     : : [by] "r"(HIDDEN_BY), [hidden] "r"(hidden), [never] "m"(never)
		     : "x9", "x19", "memory");
#endif
}

/* The register is one ahead of the memory, or equal to it. */
static void count_in_register(void)
{
#if defined(__x86_64__)
	asm volatile("xor %%r12, %%r12\n"
		     "1:\tinc %%r12\n\t"
		     "mov %%r12, %[counted]\n\t"
		     "jmp 1b"
		     : [counted] "=m"(counted) : : "r12", "memory");
#else
	asm volatile("mov x19, xzr\n"
		     "1:\tadd x19, x19, #1\n\t"
		     "str x19, %[counted]\n\t"
		     "b 1b"
		     : [counted] "=m"(counted) : : "x19", "memory");
#endif
}

static void on_signal(int number)
{
	char byte;

	if (read(empty_pipe[0], &byte, 1) < 0)
		_exit(113);
}

static void handle_signal_with(unsigned long hidden)
{
	stack_t stack = {.ss_sp = handler_stack, .ss_size = STACK_SIZE};
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};

	sigaltstack(&stack, NULL);
	sigaction(SIGUSR1, &action, NULL);
	call_with(hidden, SYS_tgkill, getpid(), gettid(), SIGUSR1, 0);
}

static void *hold(void *argument)
{
	long number = (long)argument;
	unsigned long hidden = threads[number].hidden;
	struct timespec hour = {.tv_sec = 3600};
	static int word;
	char byte;

	threads[number].tid = gettid();
	switch (number) {
	case 1:
		call_with(hidden, SYS_futex, (long)&word, FUTEX_WAIT_PRIVATE, 0, 0);
		break;
	case 2:
		call_with(hidden, SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (long)&hour, 0);
		break;
	case 3: {
		struct epoll_event event;

		call_with(hidden, SYS_epoll_pwait, epoll_create1(0), (long)&event, 1, -1);
		break;
	}
	case 4:
		spin_with(hidden);
		break;
	case 5:
		handle_signal_with(hidden);
		break;
	case 6:
		count_in_register();
		break;
	default:
		call_with(hidden, SYS_read, empty_pipe[0], (long)&byte, 1, 0);
	}
	return NULL;
}

static void answer_of(int number, const char *what, long value)
{
	char key[48];

	snprintf(key, sizeof(key), "%s_%s", threads[number].name, what);
	answer(key, value);
}

int main(int argc, char **argv)
{
	pthread_t thread;

	parse_now(argc, argv);
	if (pipe(empty_pipe))
		return 114;
	for (long i = 0; i < THREADS; i++) {
		if (i < NAMED)
			strcpy(threads[i].name, names[i]);
		else
			snprintf(threads[i].name, sizeof(threads[i].name), "more%ld", i - NAMED);
		threads[i].hidden = (0x7a0000000000UL + i * 4096) ^ HIDDEN_BY;
		if (pthread_create(&thread, NULL, hold, (void *)i))
			return 115;
		while (!threads[i].tid)
			;
		answer_of(i, "tid", threads[i].tid);
		answer_of(i, "value", threads[i].hidden ^ HIDDEN_BY);
	}
	answer("counter", (long)&counted);
	answer("handler_stack", (long)handler_stack);
	answer("handler_stack_size", STACK_SIZE);
	stage("ready");
	stage("done");
	_exit(0);
}
