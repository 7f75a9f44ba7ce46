// SPDX-License-Identifier: Apache-2.0
// Writes copies of its own stacks, and what backtrace() returns for each, for test_unwind_stack.py.
//
// usage: unwind_self FOLDER
// FOLDER/maps: /proc/self/maps. FOLDER/stacks: records of struct head, frames, stack bytes.
#define _GNU_SOURCE
#include <alloca.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define MAX_FRAMES 400
#define NOINLINE __attribute__((noinline, noclone))

struct head {
	uint64_t where, pc, sp, fp, lr, frames, bytes;
};

enum { PLAIN = 1, ALLOCA, ALIGNED, VARIADIC, CALLBACK, THREAD, DEEP, SIGNAL, INTERRUPTED, STEP };

static volatile int stacks, stepping;
static __thread char *stack_end;
static volatile int sink;

static void put(const void *data, size_t size)
{
	if (write(stacks, data, size) != (ssize_t)size)
		_exit(1);
}

static void record(struct head head, void **frames)
{
	head.bytes = stack_end - (char *)head.sp;
	put(&head, sizeof(head));
	put(frames, sizeof(*frames) * head.frames);
	put((void *)head.sp, head.bytes);
}

// The record has the frames of the callers; the first one of backtrace() is this function.
NOINLINE static void dump(int where)
{
	void *frames[MAX_FRAMES];
	struct head head = {where};

	if (stepping)
		return;
	head.frames = backtrace(frames, MAX_FRAMES);
#if defined(__x86_64__)
	__asm__ volatile("lea 0(%%rip), %0\n\tmov %%rsp, %1\n\tmov %%rbp, %2"
			 : "=r"(head.pc), "=r"(head.sp), "=r"(head.fp));
#elif defined(__aarch64__)
	__asm__ volatile("adr %0, .\n\tmov %1, sp\n\tmov %2, x29\n\tmov %3, x30"
			 : "=r"(head.pc), "=r"(head.sp), "=r"(head.fp), "=r"(head.lr));
#endif
	record(head, frames);
}

NOINLINE static int plain(int depth)
{
	if (depth)
		sink += plain(depth - 1);
	else
		dump(depth ? DEEP : PLAIN);
	return sink++;
}

NOINLINE static int deep(int depth)
{
	if (depth)
		sink += deep(depth - 1);
	else
		dump(DEEP);
	return sink++;
}

NOINLINE static int with_alloca(int size)
{
	char *memory = alloca(size);

	memset(memory, size, size);
	dump(ALLOCA);
	return memory[size / 2];
}

NOINLINE static int aligned(int size)
{
	char local[100] __attribute__((aligned(128)));
	char *memory = alloca(size);

	memset(local, size, sizeof(local));
	memset(memory, size, size);
	dump(ALIGNED);
	return local[size % 100] + memory[0];
}

NOINLINE static int variadic(int count, ...)
{
	char local[64] __attribute__((aligned(64)));
	va_list list;
	int sum = 0;

	va_start(list, count);
	while (count--)
		sum += va_arg(list, int);
	va_end(list);
	memset(local, sum, sizeof(local));
	dump(VARIADIC);
	return local[sum % 64];
}

static int compare(const void *a, const void *b)
{
	static int dumped;

	if (dumped++ < 3)
		dump(CALLBACK);
	return *(const int *)a - *(const int *)b;
}

static void *thread(void *argument)
{
	stack_end = (char *)__builtin_frame_address(0) + 1024;
	dump(THREAD);
	return argument;
}

static void on_signal(int number)
{
	dump(SIGNAL);
	sink += number;
}

static void from_context(int where, ucontext_t *context)
{
	void *frames[MAX_FRAMES];
	struct head head = {where};
	int skipped = 0, count = backtrace(frames, MAX_FRAMES);

#if defined(__x86_64__)
	head.pc = context->uc_mcontext.gregs[REG_RIP];
	head.sp = context->uc_mcontext.gregs[REG_RSP];
	head.fp = context->uc_mcontext.gregs[REG_RBP];
#elif defined(__aarch64__)
	head.pc = context->uc_mcontext.pc;
	head.sp = context->uc_mcontext.sp;
	head.fp = context->uc_mcontext.regs[29];
	head.lr = context->uc_mcontext.regs[30];
#endif
	while (skipped < count && (uint64_t)frames[skipped] != head.pc)
		skipped++;
	head.frames = count - skipped;
	record(head, frames + skipped);
}

static void on_interrupt(int number, siginfo_t *info, void *context)
{
	from_context(INTERRUPTED, context);
}

#if defined(__x86_64__)
#define TRAP_FLAG 0x100

static void on_start(int number, siginfo_t *info, void *context)
{
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_step(int number, siginfo_t *info, void *context)
{
	if (stepping)
		from_context(STEP, context);
	else
		((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}
#endif

static void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};

	sigaction(number, &action, NULL);
}

// Every instruction of a few function calls, the first of each through the dynamic loader.
NOINLINE static void step(void)
{
#if defined(__x86_64__)
	int data[] = {4, 2, 9, 1};

	handle(SIGUSR1, on_start, 0);
	handle(SIGTRAP, on_step, 0);
	stepping = 1;
	raise(SIGUSR1);
	sink += strtol("12", NULL, 10);
	sink += with_alloca(100) + aligned(40) + variadic(2, 1, 2);
	qsort(data, 4, sizeof(int), compare);
	sink += getppid();
	stepping = 0;
#endif
}

static void copy_maps(const char *folder)
{
	char path[4096], buffer[65536];
	FILE *from = fopen("/proc/self/maps", "r"), *to;
	size_t size;

	snprintf(path, sizeof(path), "%s/maps", folder);
	to = fopen(path, "w");
	while ((size = fread(buffer, 1, sizeof(buffer), from)) > 0)
		fwrite(buffer, 1, size, to);
	fclose(from);
	fclose(to);
}

extern void *__libc_stack_end;

int main(int argc, char **argv)
{
	int data[] = {3, 1, 2};
	char path[4096];
	pthread_t id;

	stack_end = (char *)__libc_stack_end + 64;
	snprintf(path, sizeof(path), "%s/stacks", argv[1]);
	stacks = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	plain(0);
	plain(7);
	deep(250);
	with_alloca(1000);
	aligned(200);
	variadic(3, 1, 2, 3);
	qsort(data, 3, sizeof(int), compare);
	pthread_create(&id, NULL, thread, NULL);
	pthread_join(id, NULL);
	signal(SIGUSR1, on_signal);
	raise(SIGUSR1);
	handle(SIGUSR2, on_interrupt, 0);
	raise(SIGUSR2);
	step();
	close(stacks);
	copy_maps(argv[1]);
	return 0;
}
