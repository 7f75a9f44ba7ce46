// build: -O1 -g -pthread -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * ends HOW [MIB]: fills a block, attaches a System V segment that goes with its last user, and ends:
 * return, _exit, exit (in a thread), leader (first its main thread, then the process), kill, term,
 * segv, exec. With `registers`, a thread that runs and one that waits keep a number in a register,
 * until a signal ends them.
 */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include "answers.h"

#define RUNNING 0x5eed0001cafe
#define WAITING 0x5eed0002cafe
#if defined(__x86_64__)
#define KEPT "r12"
#else
#define KEPT "x20"
#endif

static void *exit_process(void *unused)
{
	exit(7);
}

static void *exit_after_leader(void *leader)
{
	pthread_join(*(pthread_t *)leader, NULL);
	stage("alone");
	exit(7);
}

static void run(void)
{
	register long kept asm(KEPT) = RUNNING;

	for (;;)
		asm volatile("" : "+r"(kept));
}

static void *wait_for_signal(void *unused)
{
	answer("waiting", gettid());
	say("done\n", 5);
#if defined(__x86_64__)
	register long kept asm(KEPT) = WAITING;
	long result;

	asm volatile("syscall" : "=a"(result) : "a"(SYS_pause), "r"(kept) : "rcx", "r11", "memory");
#else
	register long kept asm(KEPT) = WAITING;
	register long call asm("x8") = SYS_ppoll;
	register long a0 asm("x0") = 0, a1 asm("x1") = 0, a2 asm("x2") = 0, a3 asm("x3") = 0;

	asm volatile("svc 0" : "+r"(a0) : "r"(call), "r"(a1), "r"(a2), "r"(a3), "r"(kept) : "memory");
#endif
	return NULL;
}

static void fill(long mib)
{
	long count = mib << 17;
	uint64_t *block = malloc(count * sizeof(*block)), sum = 0;
	int segment = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);

	for (long i = 0; i < count; i++) {
		block[i] = (i + 1) * 0x9e3779b97f4a7c15ull;
		sum ^= block[i];
	}
	if (shmat(segment, NULL, 0) == (void *)-1 || shmctl(segment, IPC_RMID, NULL))
		_exit(113);
	answer("block", (long)block);
	answer("words", count);
	answer("xor", (long)sum);
	answer("segment", segment);
}

int main(int argc, char **argv)
{
	const char *how = argv[1];
	pthread_t thread, self = pthread_self();

	parse_now(argc, argv);
	fill(number(argc, argv, 2, 1));
	stage("ready");
	if (!strcmp(how, "_exit"))
		_exit(7);
	if (!strcmp(how, "exit") && !pthread_create(&thread, NULL, exit_process, NULL))
		pthread_join(thread, NULL);
	if (!strcmp(how, "leader") && !pthread_create(&thread, NULL, exit_after_leader, &self))
		pthread_exit(NULL);
	if (!strcmp(how, "registers") && !pthread_create(&thread, NULL, wait_for_signal, NULL))
		run();
	if (!strcmp(how, "kill"))
		kill(getpid(), SIGKILL);
	if (!strcmp(how, "term"))
		kill(getpid(), SIGTERM);
	if (!strcmp(how, "segv"))
		raise(SIGSEGV);
	if (!strcmp(how, "exec"))
		execl("/bin/cat", "cat", (char *)NULL);
	return 7;
}
