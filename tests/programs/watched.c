// build: -O1 -g -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Writes to the variable `total`. By the first argument:
 *
 * threads: 50 threads, half of which start after `ready`, make 20 stray writes each, with one
 * instruction; then the kernel writes the variable for read(2).
 * forms: instructions of several kinds write it, each in a function of its own.
 * fork: a child writes it 7 times, and then the parent 5 times. exec: 3 writes, then the same
 * program is run again, which makes 5.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "answers.h"

#define THREADS 50
#define WRITES 20

volatile long total;
volatile long neighbour; /* in the same cache line */
extern char stray_store[];

static pthread_barrier_t start;
static atomic_int waiting;
static pthread_t threads[THREADS];
static long tids[THREADS];

NOINLINE static void stray(long value)
{
#if defined(__x86_64__)
	asm volatile("stray_store: mov %0, total(%%rip)" : : "r"(value) : "memory");
#else
	asm volatile("adrp x9, total\nadd x9, x9, :lo12:total\nstray_store: str %0, [x9]"
		     : : "r"(value) : "memory", "x9");
#endif
	neighbour++;
}

static void write_times(int times)
{
	for (int i = 0; i < times; i++)
		stray(i);
}

static void *worker(void *number)
{
	tids[(long)number] = syscall(SYS_gettid);
	waiting++;
	pthread_barrier_wait(&start);
	write_times(WRITES);
	return NULL;
}

static void begin(int first, int end)
{
	for (long i = first; i < end; i++)
		pthread_create(&threads[i], NULL, worker, (void *)i);
	while (waiting < (end < THREADS ? end : 0))
		usleep(1000);
}

static void finish_threads(void)
{
	char key[32];
	int fds[2];

	begin(THREADS / 2, THREADS);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	if (pipe(fds) || write(fds[1], "12345678", 8) != 8 || read(fds[0], (void *)&total, 8) != 8)
		_exit(113);
	for (int i = 0; i < THREADS; i++) {
		snprintf(key, sizeof(key), "thread_%ld", tids[i]);
		answer(key, WRITES);
	}
}

#if defined(__x86_64__)
extern char form_mov[], form_add[], form_rep[], form_call[], form_xchg[], form_top[], form_push[];

NOINLINE static void forms(void)
{
	long value = 1, *at = (long *)&total, bytes = 8;

	asm volatile("form_mov: movb $2, total(%%rip)" : : : "memory");
	asm volatile("form_add: lock addl $3, total+4(%%rip)" : : : "memory");
	asm volatile("form_xchg: xchg %0, total(%%rip)" : "+r"(value) : : "memory");
	asm volatile("form_rep: rep stosb" : "+D"(at), "+c"(bytes) : "a"(4) : "memory");
	/* As the top of the stack: by a call, whose return address it is, by a push and a store. */
	asm volatile("mov %%rsp, %%rbx\nlea total+8(%%rip), %%rsp\nform_call: call nothing\n"
		     "form_push: push %%rbx\nform_top: mov %%rbx, (%%rsp)\n"
		     "mov %%rbx, %%rsp" : : : "rbx", "memory");
}

asm(".globl nothing\n.type nothing, @function\nnothing:\n.cfi_startproc\nret\n.cfi_endproc\n"
    ".size nothing, .-nothing");

static void tell_forms(void)
{
	answer("form_mov", (long)form_mov);
	answer("form_add", (long)form_add);
	answer("form_xchg", (long)form_xchg);
	answer("form_rep", (long)form_rep);
	answer("form_call", (long)form_call);
	answer("form_push", (long)form_push);
	answer("form_top", (long)form_top);
}
#else
static void forms(void)
{
}

static void tell_forms(void)
{
}
#endif

static void write_in_a_child(void)
{
	pid_t child = fork();

	if (!child) {
		write_times(7);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	write_times(5);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "threads";

	parse_now(argc, argv);
	pthread_barrier_init(&start, NULL, THREADS);
	if (!strcmp(what, "threads"))
		begin(0, THREADS / 2);
	answer("store", (long)stray_store);
	answer("address", (long)&total);
	tell_forms();
	stage("ready");
	if (!strcmp(what, "threads"))
		finish_threads();
	else if (!strcmp(what, "forms"))
		forms();
	else if (!strcmp(what, "fork"))
		write_in_a_child();
	else
		write_times(strcmp(what, "exec") ? 5 : 3);
	if (!strcmp(what, "exec"))
		execl("/proc/self/exe", argv[0], "again", "now", NULL);
	stage("done");
	return 0;
}
