// build: -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * Takes memory and descriptors that no allocator of the C library gives out, as its argument says:
 * `arena` touches memory that was mapped before the attach, `slowly` does so in some seconds,
 * `mappings` maps it itself, `moved` grows one mapping with mremap, `shared` attaches System V shared
 * memory, `descriptors` opens files, `buffer` grows one block by realloc, `heap` takes as much from
 * malloc, `nothing` does nothing. Prints what it took.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <time.h>

#include "answers.h"

#define SIZE (64L << 20)
#define PIECES 16
#define FILES 150
#define STEPS 40

static NOINLINE char *map_piece(long size)
{
	char *piece = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (piece == MAP_FAILED)
		_exit(113);
	return piece;
}

static void take_mappings(void)
{
	for (int i = 0; i < PIECES; i++)
		memset(map_piece(SIZE / PIECES), 1, SIZE / PIECES);
	answer("mappings", PIECES);
}

static NOINLINE void take_moved(void)
{
	char *piece = map_piece(SIZE / PIECES);

	for (int i = 2; i <= PIECES; i++)
		piece = mremap(piece, (i - 1) * SIZE / PIECES, i * SIZE / PIECES, MREMAP_MAYMOVE);
	memset(piece, 1, SIZE);
	answer("mappings", 1);
}

static void take_shared(void)
{
	int id = shmget(IPC_PRIVATE, SIZE, 0600);

	memset(shmat(id, NULL, 0), 1, SIZE);
	shmctl(id, IPC_RMID, NULL);
	answer("shared_bytes", SIZE);
}

static void take_descriptors(void)
{
	for (int i = 0; i < FILES; i++)
		if (open("/dev/null", O_RDONLY) < 0)
			_exit(114);
	answer("descriptors", FILES);
}

static void touch_slowly(char *arena)
{
	struct timespec pause = { .tv_nsec = 50000000 };

	for (int i = 0; i < STEPS; i++) {
		memset(arena + i * (SIZE / STEPS), 1, SIZE / STEPS);
		nanosleep(&pause, NULL);
	}
}

/* One block that is never older than a step. */
static NOINLINE void grow_buffer(void)
{
	struct timespec pause = { .tv_nsec = 50000000 };
	char *buffer = NULL;

	for (int i = 1; i <= STEPS; i++) {
		buffer = realloc(buffer, i * (SIZE / STEPS));
		nanosleep(&pause, NULL);
	}
	answer("buffer_bytes", STEPS * (SIZE / STEPS));
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "nothing";
	char *arena = map_piece(SIZE);

	parse_now(argc, argv);
	stage("ready");
	if (!strcmp(what, "arena"))
		memset(arena, 1, SIZE);
	else if (!strcmp(what, "mappings"))
		take_mappings();
	else if (!strcmp(what, "moved"))
		take_moved();
	else if (!strcmp(what, "slowly"))
		touch_slowly(arena);
	else if (!strcmp(what, "shared"))
		take_shared();
	else if (!strcmp(what, "descriptors"))
		take_descriptors();
	else if (!strcmp(what, "buffer"))
		grow_buffer();
	else if (!strcmp(what, "heap"))
		free(memset(malloc(SIZE), 1, SIZE));
	if (strcmp(what, "nothing"))
		free(malloc(1));
	stage("done");
	return 0;
}
