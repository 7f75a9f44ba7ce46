// build: -O1 -g -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * harms MODE: does what a tracer's probes could break, again and again until the second byte comes
 * (`now`: a few times). `wrong` counts what went otherwise than it must.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#ifdef __GLIBC__ /* musl has neither fibers nor the kernel's headers */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <ucontext.h>
#endif

#include "answers.h"

#define BLOCKS 64
#define ROUNDS 20 /* with `now` */
#define STACK (1 << 16)

static long wrong;
static volatile long ticks;
static char **arguments;

/* Blocks keep their contents until they are freed. */
static void NOINLINE allocate(int seed)
{
	unsigned char *volatile blocks[BLOCKS];

	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(16 + (seed + i * 37) % 2000);
		memset(blocks[i], seed + i, 16);
	}
	for (int i = 0; i < BLOCKS; i++) {
		for (int j = 0; j < 16; j++)
			wrong += blocks[i][j] != (unsigned char)(seed + i);
		blocks[i] = realloc(blocks[i], 3000);
		wrong += blocks[i][15] != (unsigned char)(seed + i);
		free(blocks[i]);
	}
}

static void reap(pid_t child)
{
	int status;

	wrong += child < 0 || waitpid(child, &status, 0) != child || status;
}

static void forks(int round)
{
	pid_t child = fork();

	if (!child) {
		allocate(round);
		_exit(wrong != 0);
	}
	allocate(round);
	reap(child);
}

static void execs(int round)
{
	pid_t child = fork();

	if (!child) {
		execl("/proc/self/exe", arguments[0], "plain", "now", "quiet", NULL);
		_exit(1);
	}
	reap(child);
}

static void spawns(int round)
{
	pid_t child = vfork();

	if (!child) {
		execl("/proc/self/exe", arguments[0], "plain", "now", "quiet", NULL);
		_exit(1);
	}
	reap(child);
}

static void *in_thread(void *argument)
{
	allocate((long)argument);
	if ((long)argument % 2)
		pthread_exit(NULL);
	return NULL;
}

static void threads(int round)
{
	pthread_t ids[4];

	for (long i = 0; i < 4; i++)
		wrong += pthread_create(&ids[i], NULL, in_thread, (void *)i) != 0;
	for (int i = 0; i < 4; i++)
		pthread_join(ids[i], NULL);
}

static void *until_cancelled(void *argument)
{
	for (;; pthread_testcancel())
		allocate(1);
	return argument;
}

static void cancels(int round)
{
	pthread_t id;

	pthread_create(&id, NULL, until_cancelled, NULL);
	allocate(round);
	pthread_cancel(id);
	pthread_join(id, NULL);
}

static jmp_buf back;

static void NOINLINE jump_from(int depth)
{
	allocate(depth);
	if (depth)
		jump_from(depth - 1);
	longjmp(back, 1);
}

static void jumps(int round)
{
	if (!setjmp(back))
		jump_from(round % 8);
	allocate(round);
}

static void tick(int number)
{
	ticks++;
}

/* Signals on another stack interrupt the allocator all the time. */
static void signals(int round)
{
	static char stack[STACK];
	stack_t alternate = { .ss_sp = stack, .ss_size = STACK };
	struct sigaction action = { .sa_handler = tick, .sa_flags = SA_ONSTACK | SA_RESTART };
	struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = {};

	sigaltstack(&alternate, NULL);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < 20; i++)
		allocate(i);
	setitimer(ITIMER_REAL, &never, NULL);
}

#ifdef __GLIBC__
static ucontext_t scheduler, fibers_at[4];

static void fiber(int number)
{
	for (int i = 0; i < 4; i++) {
		allocate(number + i);
		swapcontext(&fibers_at[number], &scheduler);
	}
}

static void fibers(int round)
{
	static char stacks[4][STACK];

	for (int i = 0; i < 4; i++) {
		getcontext(&fibers_at[i]);
		fibers_at[i].uc_stack.ss_sp = stacks[i];
		fibers_at[i].uc_stack.ss_size = STACK;
		fibers_at[i].uc_link = &scheduler;
		makecontext(&fibers_at[i], (void (*)(void))fiber, 1, i);
	}
	for (int turn = 0; turn < 4; turn++)
		for (int i = 0; i < 4; i++)
			swapcontext(&scheduler, &fibers_at[i]);
}

#endif

static void loads(int round)
{
	void *library = dlopen("libm.so.6", RTLD_NOW);

	wrong += !library;
	allocate(round);
	if (library)
		dlclose(library);
}

#ifdef __GLIBC__
/* The filter ends the program at any call that it has not made itself. */
static void filters(int round)
{
	static bool is_on;
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 335, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	if (!is_on) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		wrong += prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0;
	}
	is_on = true;
	allocate(round);
}

#endif

static void plain(int round)
{
	allocate(round);
	getppid();
}

static const struct mode {
	const char *name;
	void (*work)(int round);
} modes[] = {
	{ "plain", plain },	{ "forks", forks },   { "execs", execs },     { "spawns", spawns },
	{ "threads", threads }, { "cancels", cancels }, { "jumps", jumps },   { "signals", signals },
	{ "loads", loads },
#ifdef __GLIBC__
	{ "fibers", fibers },   { "filters", filters },
#endif
};

static bool is_told_to_end(int round)
{
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };

	return never_wait ? round >= ROUNDS : poll(&input, 1, 0) > 0;
}

int main(int argc, char **argv)
{
	const struct mode *mode = modes;
	bool is_quiet = argc > 3;
	int round = 0;

	parse_now(argc, argv);
	arguments = argv;
	while (argc > 1 && strcmp(mode->name, argv[1]))
		mode++;
	if (!is_quiet)
		stage("ready");
	for (; !is_told_to_end(round); round++)
		mode->work(round);
	if (is_quiet)
		return wrong != 0;
	wait_for_byte();
	answer("rounds", round);
	answer("wrong", wrong);
	stage("done");
	return 0;
}
