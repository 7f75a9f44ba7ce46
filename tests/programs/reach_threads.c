// build: -O1 -g -D_GNU_SOURCE -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Blocks held by threads: in a register of one that waits or runs, in its stack, in its thread-local
 * memory, on an alternate signal stack, on the stack of a coroutine; and blocks of threads that have
 * ended. All threads but those stay to the end. With `leaderless`, the main thread ends first, and
 * another does its work.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "blocks.h"

#define STACK_SIZE (256 << 10)
#define KEYS 40 /* the first 32 have room in the thread's own memory */

static atomic_int parked;
static __thread void *volatile in_thread;
static pthread_key_t keys[KEYS];

static void park(void)
{
	atomic_fetch_add(&parked, 1);
	for (;;)
		pause();
}

/* Starts a thread and waits until it parks. */
static void start_thread(void *(*run)(void *))
{
	pthread_t thread;
	int before = atomic_load(&parked);

	if (pthread_create(&thread, NULL, run, NULL))
		_exit(114);
	while (atomic_load(&parked) == before)
		usleep(100);
}

/* Clears all registers that could hold the block but the first that calls preserve. */
#if defined(__x86_64__)
#define ONLY_IN_REGISTER                                                                           \
	"mov %%rax, %%r12\n xor %%ebx, %%ebx\n xor %%ebp, %%ebp\n xor %%ecx, %%ecx\n"              \
	"xor %%edx, %%edx\n xor %%esi, %%esi\n xor %%edi, %%edi\n xor %%r8d, %%r8d\n"              \
	"xor %%r9d, %%r9d\n xor %%r10d, %%r10d\n xor %%r11d, %%r11d\n xor %%r13d, %%r13d\n"        \
	"xor %%r14d, %%r14d\n xor %%r15d, %%r15d\n xor %%eax, %%eax\n"
#define WAIT "1: mov $34, %%eax\n syscall\n jmp 1b" /* pause */
#define SPIN "1: pause\n jmp 1b"
#define KEEP(block, how) __asm__ volatile(ONLY_IN_REGISTER how ::"a"(block) : "memory")
#elif defined(__aarch64__)
#define ONLY_IN_REGISTER                                                                           \
	"mov x19, x0\n mov x20, 0\n mov x21, 0\n mov x22, 0\n mov x23, 0\n mov x24, 0\n"           \
	"mov x25, 0\n mov x26, 0\n mov x27, 0\n mov x28, 0\n mov x29, 0\n mov x30, 0\n"            \
	"mov x0, 0\n mov x1, 0\n mov x2, 0\n mov x3, 0\n mov x4, 0\n mov x5, 0\n mov x6, 0\n"      \
	"mov x7, 0\n mov x9, 0\n mov x10, 0\n mov x11, 0\n mov x12, 0\n mov x13, 0\n"              \
	"mov x14, 0\n mov x15, 0\n mov x16, 0\n mov x17, 0\n"
#define WAIT "1: mov x0, 0\n mov x8, 73\n svc 0\n b 1b" /* ppoll */
#define SPIN "1: yield\n b 1b"
#define KEEP(block, how)                                                                           \
	do {                                                                                       \
		register void *first __asm__("x0") = block;                                        \
		__asm__ volatile(ONLY_IN_REGISTER how ::"r"(first) : "memory");                    \
	} while (0)
#endif

static void *blocked_register(void *argument)
{
	void *block = BLOCK("register-blocked", 40, REACHABLE);

	forget();
	atomic_fetch_add(&parked, 1);
	KEEP(block, WAIT);
	return argument;
}

static void *running_register(void *argument)
{
	void *block = BLOCK("register-running", 40, REACHABLE);

	forget();
	atomic_fetch_add(&parked, 1);
	KEEP(block, SPIN);
	return argument;
}

static void registers(void)
{
	start_thread(blocked_register);
	start_thread(running_register);
}

static void *lose_and_hold(void *argument)
{
	void *volatile on_stack = BLOCK("thread-stack", 40, REACHABLE);
	void *volatile lost = BLOCK("thread-lost", 40, DEFINITE);

	lost = NULL;
	forget();
	park();
	(void)on_stack, (void)lost;
	return argument;
}

static void thread_stack(void)
{
	start_thread(lose_and_hold);
}

static void *own_memory(void *argument)
{
	in_thread = BLOCK("thread-local", 40, REACHABLE);
	pthread_setspecific(keys[0], BLOCK("specific-first", 40, REACHABLE));
	pthread_setspecific(keys[KEYS - 1], BLOCK("specific-second-level", 40, REACHABLE));
	forget();
	park();
	return argument;
}

static void thread_memory(void)
{
	in_thread = BLOCK("thread-local-of-main", 40, REACHABLE);
	for (int i = 0; i < KEYS; i++)
		pthread_key_create(&keys[i], NULL);
	pthread_setspecific(keys[0], BLOCK("specific-of-main", 40, REACHABLE));
	start_thread(own_memory);
}

static void *return_block(void *argument)
{
	void *block = BLOCK("result-not-joined", 40, REACHABLE);

	forget();
	atomic_fetch_add(&parked, 1);
	return argument ? argument : block;
}

static void thread_result(void)
{
	start_thread(return_block);
}

/* The C library keeps the memory of an ended thread for the next one, with all that is in it. */
static void *end_with_blocks(void *argument)
{
	in_thread = BLOCK("ended-thread-local", 40, REACHABLE);
	pthread_setspecific(keys[1], BLOCK("ended-specific", 40, DEFINITE));
	forget();
	return argument;
}

static void ended_thread(void)
{
	pthread_t thread;

	pthread_key_create(&keys[1], NULL);
	if (pthread_create(&thread, NULL, end_with_blocks, NULL))
		_exit(115);
	pthread_join(thread, NULL);
}

static void *new_stack(void)
{
	void *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stack == MAP_FAILED)
		_exit(116);
	return stack;
}

static void handle_and_park(int number)
{
	void *volatile on_signal_stack = BLOCK("signal-stack", 40, REACHABLE);

	forget();
	park();
	(void)on_signal_stack, (void)number;
}

static void *interrupted(void *argument)
{
	void *volatile on_stack = BLOCK("below-signal-stack", 40, REACHABLE);
	stack_t stack = {.ss_size = STACK_SIZE};

	stack.ss_sp = new_stack();
	sigaltstack(&stack, NULL);
	forget();
	pthread_kill(pthread_self(), SIGUSR1);
	(void)on_stack;
	return argument;
}

static void signal_stack(void)
{
	struct sigaction action = {.sa_handler = handle_and_park, .sa_flags = SA_ONSTACK};

	sigaction(SIGUSR1, &action, NULL);
	start_thread(interrupted);
}

struct coroutine {
	ucontext_t context;
	const char *name;
	enum class_of_block content;
	char *stack;
};

static ucontext_t main_context;
static struct coroutine *entering;
static struct coroutine *volatile suspended[2];

static void run_coroutine(void)
{
	struct coroutine *volatile self = entering; /* in memory: its stack points to it */
	void *volatile on_coroutine = BLOCK(self->name, 40, self->content);

	entering = NULL;
	forget();
	swapcontext(&self->context, &main_context);
	(void)on_coroutine;
}

NOINLINE static void suspend(struct coroutine *coroutine)
{
	getcontext(&coroutine->context);
	coroutine->context.uc_stack.ss_sp = coroutine->stack;
	coroutine->context.uc_stack.ss_size = STACK_SIZE;
	makecontext(&coroutine->context, run_coroutine, 0);
	entering = coroutine;
	swapcontext(&main_context, &coroutine->context);
}

static void coroutine_on_mapping(void)
{
	struct coroutine *coroutine = BLOCK("coroutine-mapped", sizeof(*coroutine), REACHABLE);

	coroutine->name = "coroutine-mapped-content";
	coroutine->content = REACHABLE;
	coroutine->stack = new_stack();
	suspended[0] = coroutine;
	suspend(coroutine);
}

static void coroutine_on_heap(void)
{
	struct coroutine *coroutine = BLOCK("coroutine-heap", sizeof(*coroutine), REACHABLE);

	coroutine->name = "coroutine-heap-content";
	coroutine->content = REACHABLE;
	coroutine->stack = BLOCK("coroutine-heap-stack", STACK_SIZE, REACHABLE);
	suspended[1] = coroutine;
	suspend(coroutine);
}

/* A coroutine that nobody can resume. Its stack points to its context and back. */
static void coroutine_lost(void)
{
	struct coroutine *coroutine = BLOCK("coroutine-lost", sizeof(*coroutine), DEFINITE);
	void *ring[] = {coroutine, BLOCK("coroutine-lost-stack", STACK_SIZE, INDIRECT)};

	expect_cycle(ring, 2);
	coroutine->name = "coroutine-lost-content";
	coroutine->content = INDIRECT;
	coroutine->stack = ring[1];
	suspend(coroutine);
	memset(&main_context, 0, sizeof(main_context));
}

/* The child uses the memory of the parent, whose thread waits in the kernel. */
static void *with_vfork(void *argument)
{
	void *volatile on_stack = BLOCK("vfork-stack", 40, REACHABLE);

	forget();
	atomic_fetch_add(&parked, 1);
	if (vfork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	park();
	(void)on_stack;
	return argument;
}

static void vforked(void)
{
	start_thread(with_vfork);
}

#define ARENAS 8

static void *volatile arena_held[ARENAS];
static pthread_barrier_t allocating;

/* Its own function, whose caller does not keep what was in registers. */
NOINLINE static void **fill_arena(void)
{
	void **held = BLOCK("arena-held", 72, REACHABLE);
	void **lost = BLOCK("arena-lost", 300, DEFINITE);

	held[3] = BLOCK("arena-chained", 200, REACHABLE);
	lost[2] = BLOCK("arena-lost-chained", 99, INDIRECT);
	return held;
}

static void *use_arena(void *argument)
{
	pthread_barrier_wait(&allocating); /* at once, so that each gets an arena of its own */
	arena_held[(long)argument] = fill_arena();
	forget();
	park();
	return argument;
}

static void many_arenas(void)
{
	pthread_t thread;
	int before = atomic_load(&parked);

	pthread_barrier_init(&allocating, NULL, ARENAS);
	for (long i = 0; i < ARENAS; i++)
		pthread_create(&thread, NULL, use_arena, (void *)i);
	while (atomic_load(&parked) != before + ARENAS)
		usleep(100);
}

static const struct reach_case cases[] = {
	CASE(registers),
	CASE(thread_stack),
	CASE(thread_memory),
	CASE(thread_result),
	CASE(signal_stack),
	CASE(coroutine_on_mapping),
	CASE(coroutine_on_heap),
	CASE(coroutine_lost),
	CASE(vforked),
	CASE(many_arenas),
	CASE(ended_thread),
};

struct command {
	int argc;
	char **argv;
};

static void *run_all(void *argument)
{
	struct command *command = argument;

	_exit(run_cases(command->argc, command->argv, cases, sizeof(cases) / sizeof(*cases)));
}

int main(int argc, char **argv)
{
	static struct command command;
	pthread_t thread;

	if (argc < 2 || strcmp(argv[1], "leaderless"))
		return run_cases(argc, argv, cases, sizeof(cases) / sizeof(*cases));
	command = (struct command){argc - 1, argv + 1};
	pthread_create(&thread, NULL, run_all, &command);
	pthread_exit(NULL);
}
