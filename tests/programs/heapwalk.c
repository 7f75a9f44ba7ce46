// build: -O1 -g -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Makes blocks in many ways and writes them to the file that its first argument names: address,
 * requested size, malloc_usable_size(). Its second argument names the way. At the stage `freed` it
 * has freed them all. `pid` is the process to look at: a child if the way is `fork`.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "answers.h"

#define THREADS 8
#define BLOCKS 3001
#define MOST (THREADS * BLOCKS + 4 * BLOCKS)

struct known {
	void *address;
	size_t size;
};

static struct known blocks[MOST]; /* in .bss: the table itself is no block */
static atomic_int used;
static pthread_barrier_t made, end;
static atomic_bool stop;

static unsigned next_random(unsigned *seed)
{
	return *seed = *seed * 1103515245 + 12345, *seed >> 8;
}

static size_t some_size(unsigned *seed)
{
	unsigned kind = next_random(seed) % 64;

	if (kind == 0)
		return 200000 + next_random(seed) % 100000;
	if (kind < 8)
		return 1100 + next_random(seed) % 9000;
	return next_random(seed) % 300;
}

static void keep(void *address, size_t size)
{
	if (!address)
		_exit(113);
	memset(address, 0x35, size); /* looks like sizes of chunks */
	blocks[atomic_fetch_add(&used, 1)] = (struct known){address, size};
}

/* Allocates and frees, so that tcaches, fastbins and bins are filled, and keeps every other one. */
static void mix(unsigned seed, int count)
{
	enum { AT_ONCE = 61 };
	void *held[AT_ONCE];

	for (int done = 0; done < count; done += AT_ONCE) {
		size_t sizes[AT_ONCE];

		for (int i = 0; i < AT_ONCE; i++)
			held[i] = malloc(sizes[i] = some_size(&seed));
		for (int i = 0; i < AT_ONCE; i++) {
			if (next_random(&seed) % 2)
				keep(held[i], sizes[i]);
			else
				free(held[i]);
		}
	}
}

static void aligned(void)
{
	for (size_t alignment = 16; alignment <= 4 << 20; alignment *= 2)
		for (size_t size = 100; size < 1 << 20; size *= 7)
			keep(memalign(alignment, size), size);
}

/* realloc() of a mapped block calls mremap(). */
static void remapped(void)
{
	for (int i = 0; i < 23; i++) {
		size_t size = 150000 + i * 4096, grown = size * (2 + i % 5);
		void *block = i % 2 ? memalign(64 << i % 12, size) : malloc(size);

		if (!block)
			_exit(113);
		keep(realloc(block, grown), grown);
	}
}

/* Maps the page behind the heap, so that brk() fails and malloc maps its pieces. */
static void block_break(void)
{
	char *top = sbrk(0);
	long page = sysconf(_SC_PAGESIZE);

	mmap(top, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
}

static void *worker(void *argument)
{
	mix((unsigned)(long)argument + 1, BLOCKS);
	pthread_barrier_wait(&made);
	pthread_barrier_wait(&end);
	return NULL;
}

/* Blocks of a thread that has ended: its cached ones go back to the heap. */
static void *brief(void *argument)
{
	mix((unsigned)(long)argument + 100, BLOCKS / 10);
	return NULL;
}

static void in_threads(int count, void *(*body)(void *), pthread_t *threads)
{
	for (long i = 0; i < count; i++)
		pthread_create(&threads[i], NULL, body, (void *)i);
}

static void *busy(void *argument)
{
	unsigned seed = (unsigned)(long)argument + 7;
	void *held[37] = {0};

	while (!atomic_load(&stop)) {
		unsigned i = next_random(&seed) % 37;

		free(held[i]);
		held[i] = malloc(some_size(&seed) % 2000);
	}
	for (int i = 0; i < 37; i++)
		free(held[i]);
	return NULL;
}

static void write_blocks(const char *path)
{
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	char line[96];

	for (int i = 0; i < used; i++) {
		void *address = blocks[i].address;
		int length = snprintf(line, sizeof(line), "%p %zu %zu\n", address, blocks[i].size,
				      malloc_usable_size(address));

		if (write(file, line, length) != length)
			_exit(114);
	}
	close(file);
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS], short_lived[THREADS];
	const char *path = argv[1], *way = argc > 2 ? argv[2] : "";
	bool many = strcmp(way, "threads") == 0, runs = strcmp(way, "busy") == 0;

	if (argc > 3) /* any third argument: the kernel does not make huge pages of its memory later */
		prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	pthread_barrier_init(&made, NULL, THREADS + 1);
	pthread_barrier_init(&end, NULL, THREADS + 1);
	if (strcmp(way, "perturb") == 0)
		mallopt(M_PERTURB, 0x21);
	if (strcmp(way, "threshold") == 0)
		mallopt(M_MMAP_THRESHOLD, 1000);
	mix(3, BLOCKS);
	if (strcmp(way, "sbrk") == 0 && sbrk(3 * 4096 + 40) == (void *)-1)
		_exit(115);
	if (strcmp(way, "blocked") == 0)
		block_break();
	mix(5, BLOCKS);
	aligned();
	remapped();
	if (many) {
		in_threads(THREADS, worker, threads);
		pthread_barrier_wait(&made);
		in_threads(THREADS, brief, short_lived);
		for (int i = 0; i < THREADS; i++)
			pthread_join(short_lived[i], NULL);
	}
	if (strcmp(way, "fork") == 0) {
		pid_t child = fork();

		if (child) {
			int status = 0;

			close(0);
			waitpid(child, &status, 0);
			return 0;
		}
		mix(9, BLOCKS);
	}
	if (runs)
		in_threads(THREADS, busy, threads);
	write_blocks(path);
	answer("pid", getpid());
	stage("ready");
	for (int i = 0; i < used; i++)
		free(blocks[i].address);
	stage("freed");
	atomic_store(&stop, true);
	if (many)
		pthread_barrier_wait(&end);
	for (int i = 0; (many || runs) && i < THREADS; i++)
		pthread_join(threads[i], NULL);
	stage("done");
	return 0;
}
