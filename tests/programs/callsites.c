// build: -O2 -g -fomit-frame-pointer -fno-optimize-sibling-calls -fno-ipa-cp -fno-ipa-icf -fno-ipa-sra -pthread -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * callsites [again|exec]: makes two system calls from several functions. The answer `PLACE_CALL` is
 * the number of calls from that function. With `exec` it does everything twice, the second time in
 * a new image.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#include "answers.h"

#define OFTEN 10007
#define DEPTH 20

static volatile int zero;
static volatile int sink;

NOINLINE static void parent(int times)
{
	for (int i = 0; i < times; i++)
		sink += syscall(SYS_getppid);
}

NOINLINE static void descriptor(int times)
{
	for (int i = 0; i < times; i++)
		sink += dup(-1 - zero);
}

NOINLINE static int shallow(int times)
{
	parent(times);
	descriptor(times + 2);
	return zero;
}

NOINLINE static int deep(int depth, int times)
{
	volatile int here = depth;

	return depth ? deep(depth - 1, times) + here : shallow(times);
}

/* Alternates between two functions at the same depth. */
NOINLINE static int left(void)
{
	return syscall(SYS_getppid) + zero;
}

NOINLINE static int right(void)
{
	return syscall(SYS_getppid) + zero;
}

NOINLINE static int turns(int times)
{
	int sum = 0;

	for (int i = 0; i < times; i++)
		sum += left() + right();
	return sum;
}

NOINLINE static void handler(int number)
{
	parent(13);
	sink = number;
}

NOINLINE static int signalled(void)
{
	return raise(SIGUSR1) + zero;
}

NOINLINE static void *thread(void *unused)
{
	parent(17);
	return unused;
}

static void all_places(void)
{
	pthread_t other;

	shallow(OFTEN);
	deep(DEPTH, 101);
	turns(997);
	signal(SIGUSR1, handler);
	signalled();
	if (!pthread_create(&other, NULL, thread, NULL))
		pthread_join(other, NULL);
}

int main(int argc, char **argv)
{
	bool again = argc > 1 && strcmp(argv[1], "again") == 0;

	parse_now(argc, argv);
	if (!again)
		stage("ready");
	all_places();
	if (argc > 1 && strcmp(argv[1], "exec") == 0)
		execl("/proc/self/exe", argv[0], "again", NULL);
	stage("done");
	return 0;
}
