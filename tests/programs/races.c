// build: -O1 -g -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Programs of several threads, each with a known defect: races MODE FILE. For each i in its order,
 * thread t writes the number t * STEPS + i + 1, and a value that it has read from shared memory, to
 * the place of this number in FILE. So FILE tells which calls were made, also by a program that was
 * killed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "answers.h"

#define THREADS 4
#define STEPS 1000
#define LINE 16
#define PRICE 5

struct node {
	struct node *volatile next;
};

static int file, text;
static volatile long counter, balance = STEPS * PRICE, end;
static struct node nodes[THREADS * STEPS], *volatile head;
static long *volatile table;
static atomic_long withdrawals, arrived, waiting[2];
static pthread_mutex_t locks[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
static pthread_barrier_t meeting;

/* In the first round, every thread has read the shared value before one of them writes it. */
static void step(int thread, int i, long value)
{
	long number = thread * STEPS + i, slot[2] = {number + 1, value};

	if (i == 0)
		pthread_barrier_wait(&meeting);
	if (pwrite(file, slot, sizeof(slot), number * sizeof(slot)) != sizeof(slot))
		_exit(113);
}

static void count(int thread, int i)
{
	long seen = counter;

	step(thread, i, seen);
	counter = seen + 1;
}

static void append(int thread, int i)
{
	long at = end;
	char line[LINE + 1];

	step(thread, i, at);
	snprintf(line, sizeof(line), "line %10d\n", thread * STEPS + i);
	if (pwrite(text, line, LINE, at) != LINE)
		_exit(114);
	end = at + LINE;
}

static void withdraw(int thread, int i)
{
	long seen = balance;

	step(thread, i, seen);
	if (seen >= PRICE) {
		balance = seen - PRICE;
		withdrawals++;
	}
}

static void push(int thread, int i)
{
	struct node *node = &nodes[thread * STEPS + i], *seen = head;

	step(thread, i, seen ? seen - nodes : -1);
	node->next = seen;
	head = node;
}

/* Thread 0 is to make the table before the others use it, and does not. */
static void use_early(int thread, int i)
{
	if (thread == 0) {
		step(thread, i, 0);
		return;
	}
	step(thread, i, (long)table);
	if (thread == 1 && i == STEPS / 2)
		table[0]++;
}

/* Threads 0 and 1 take two locks in different orders. */
static void lock_both(int thread, int i)
{
	step(thread, i, 0);
	if (thread > 1 || i < STEPS - 1)
		return;
	pthread_mutex_lock(&locks[thread]);
	for (arrived++; arrived < 2;)
		;
	waiting[thread] = syscall(SYS_gettid);
	pthread_mutex_lock(&locks[!thread]);
}

static const struct mode {
	const char *name;
	void (*round)(int thread, int i);
} modes[] = {
	{"counter", count}, {"log", append}, {"account", withdraw},
	{"list", push}, {"order", use_early}, {"deadlock", lock_both},
};
static const struct mode *mode;

static void *worker(void *argument)
{
	for (int i = 0; i < STEPS; i++)
		mode->round((long)argument, i);
	return NULL;
}

static bool is_asleep(long thread)
{
	char path[64], stat[256] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%ld/stat", thread);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, stat, sizeof(stat) - 1) < 0)
		_exit(115);
	close(fd);
	return strstr(stat, ") S ") != NULL;
}

static void end_deadlock(const pthread_t *threads)
{
	for (int i = 2; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 2; i++)
		while (!waiting[i] || !is_asleep(waiting[i]))
			usleep(1000);
	answer("lock0", (long)&locks[0]);
	answer("lock1", (long)&locks[1]);
	kill(getpid(), SIGKILL);
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	long linked = 0;
	char path[512];

	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes) && argc == 3; i++)
		if (strcmp(modes[i].name, argv[1]) == 0)
			mode = &modes[i];
	if (!mode)
		return 2;
	file = open(argv[2], O_WRONLY | O_CREAT | O_EXCL, 0600);
	snprintf(path, sizeof(path), "%s.text", argv[2]);
	text = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	pthread_barrier_init(&meeting, NULL, THREADS);
	for (long i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, worker, (void *)i);
	if (mode->round == lock_both)
		end_deadlock(threads);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (struct node *node = head; node; node = node->next)
		linked++;
	answer("counter", counter);
	answer("withdrawals", withdrawals);
	answer("head", head ? head - nodes : -1);
	answer("linked", linked);
	return 0;
}
