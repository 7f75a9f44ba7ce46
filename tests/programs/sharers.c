// build: -O1 -g -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Children that share the parent's memory, and so its heap: vfork(), clone(CLONE_VM), posix_spawn().
 * Each allocates blocks that stay and frees some of the parent's. Stages: `ready`, `living` (a child
 * made by clone(CLONE_VM) waits), `done`. In `done` the parent has freed what the first child left,
 * so a tool that misses the children finds leaks that are none, and misses those that are.
 *
 * `mallinfo_bytes` is the growth of glibc's own count of used bytes; with
 * GLIBC_TUNABLES=glibc.malloc.tcache_count=0 it is equal to `chunk_bytes`.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "answers.h"

#define BLOCKS 211
#define FREED_BY_VFORK 31
#define FREED_BY_SIBLING 37
#define STACK_SIZE (1 << 16)

extern char **environ;

static void *blocks[BLOCKS];
static void *left[64];
static int left_count;
static void *volatile sink;
static volatile long live_blocks, live_bytes, allocs, frees, chunk_bytes;
static int orders[2], reports[2];
static char stack[STACK_SIZE] __attribute__((aligned(16)));

NOINLINE static void *take(long size)
{
	void *block = malloc(size);

	allocs++;
	live_blocks++;
	live_bytes += size;
	chunk_bytes += malloc_usable_size(block) + 8;
	return block;
}

static void give(void *block, long size)
{
	chunk_bytes -= malloc_usable_size(block) + 8;
	free(block);
	frees++;
	live_blocks--;
	live_bytes -= size;
}

NOINLINE static void leak_in_vfork(int count)
{
	for (int i = 0; i < count; i++)
		sink = take(1000);
}

NOINLINE static void leak_in_clone(int count)
{
	for (int i = 0; i < count; i++)
		sink = take(2000);
}

NOINLINE static void leak_in_sibling(int count)
{
	for (int i = 0; i < count; i++)
		sink = take(3000);
}

NOINLINE static void leak_in_parent(int count)
{
	for (int i = 0; i < count; i++)
		sink = take(4000);
}

static void hear(int fd)
{
	char byte;

	if (read(fd, &byte, 1) != 1)
		_exit(111);
}

static void tell(int fd)
{
	if (write(fd, "", 1) != 1)
		_exit(112);
}

NOINLINE static void vfork_and_exit(void)
{
	pid_t pid = vfork();

	if (!pid) {
		leak_in_vfork(13);
		for (int i = 0; i < 7; i++)
			left[left_count++] = take(500);
		for (int i = 0; i < FREED_BY_VFORK; i++)
			give(blocks[i], 100);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

NOINLINE static void vfork_and_exec(const char *file)
{
	pid_t pid = vfork();

	if (!pid) {
		leak_in_vfork(17);
		execl(file, file, NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

static int cloned(void *unused)
{
	leak_in_clone(19);
	return 0;
}

static int sibling(void *unused)
{
	for (int i = 0; i < FREED_BY_SIBLING; i++)
		give(blocks[FREED_BY_VFORK + i], 100);
	leak_in_sibling(23);
	tell(reports[1]);
	hear(orders[0]);
	leak_in_sibling(29);
	tell(reports[1]);
	hear(orders[0]);
	_exit(0); /* not exit(), which would end the parent's streams */
}

static void *in_thread(void *unused)
{
	leak_in_parent(41);
	return unused;
}

static void spawn_command(char *file)
{
	char *arguments[] = { file, NULL };
	pid_t pid;

	if (!posix_spawn(&pid, file, NULL, NULL, arguments, environ))
		waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	char *file = argc > 1 && argv[1][0] == '/' ? argv[1] : "/bin/true";
	pthread_t thread;
	long before;
	pid_t pid;

	parse_now(argc, argv);
	if (pipe(orders) || pipe(reports))
		return 1;
	if (!pthread_create(&thread, NULL, (void *(*)(void *))sched_yield, NULL))
		pthread_join(thread, NULL); /* glibc keeps its stack for the next one */
	stage("ready");
	before = mallinfo2().uordblks;
	for (int i = 0; i < BLOCKS; i++)
		blocks[i] = take(100);
	vfork_and_exit();
	vfork_and_exec(file);
	waitpid(clone(cloned, stack + STACK_SIZE, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL), NULL, 0);
	spawn_command(file);
	pid = clone(sibling, stack + STACK_SIZE, CLONE_VM | SIGCHLD, NULL);
	hear(reports[0]);
	answer("sibling", pid);
	stage("living");
	leak_in_parent(43);
	tell(orders[1]);
	hear(reports[0]);
	tell(orders[1]);
	waitpid(pid, NULL, 0);
	if (!pthread_create(&thread, NULL, in_thread, NULL))
		pthread_join(thread, NULL);
	while (left_count)
		give(left[--left_count], 500);
	answer("mallinfo_bytes", mallinfo2().uordblks - before);
	answer("chunk_bytes", chunk_bytes);
	answer("live_blocks", live_blocks);
	answer("live_bytes", live_bytes);
	answer("allocs", allocs);
	answer("frees", frees);
	stage("done");
	return 0;
}
