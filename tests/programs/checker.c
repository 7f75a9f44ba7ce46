// build: -O1 -g -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * Counts the braces in all files of a folder with several threads. It cannot check an empty file,
 * which cannot be mapped, and does not say which one it was.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "answers.h"

#define THREADS 4
#define MAX_FILES 1000

static char *paths[MAX_FILES];
static int files;
static atomic_int next, failure;
static atomic_long opened, closed;

static int check(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat stat;
	char *text;

	if (fd < 0 || fstat(fd, &stat) < 0)
		return errno;
	text = mmap(NULL, stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (text == MAP_FAILED) {
		int error = errno;

		close(fd);
		return error;
	}
	close(fd);
	for (off_t i = 0; i < stat.st_size; i++) {
		opened += text[i] == '{';
		closed += text[i] == '}';
	}
	munmap(text, stat.st_size);
	return 0;
}

static void *worker(void *argument)
{
	for (int i; (i = next++) < files;) {
		int error = check(paths[i]);

		if (error)
			failure = error;
	}
	return argument;
}

static bool list(const char *folder)
{
	DIR *directory = opendir(folder);
	struct dirent *entry;

	while (directory && files < MAX_FILES && (entry = readdir(directory)))
		if (entry->d_type == DT_REG && asprintf(&paths[files++], "%s/%s", folder, entry->d_name) < 0)
			return false;
	return directory && closedir(directory) == 0;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];

	if (argc != 2 || !list(argv[1]))
		return 2;
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, worker, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	if (failure) {
		fprintf(stderr, "checker: %s\n", strerror(failure));
		return 1;
	}
	puts(opened == closed ? "the braces match" : "the braces do not match");
	return opened != closed;
}
