// build: -O1 -g -static
// SPDX-License-Identifier: Apache-2.0
/*
 * Compares its own file with what it reads of it: through a private read-only mapping (`private`),
 * a private writable one, a shared one, and read(). Each answer is the number of wrong bytes.
 * The first copy, from before `ready`, is the truth.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "answers.h"

static char *truth;
static long size;
static int file;

static long differences(const char *bytes)
{
	long found = 0;

	for (long i = 0; i < size; i++)
		found += bytes[i] != truth[i];
	return found;
}

static void compare(const char *key, int protection, int flags)
{
	char *bytes = mmap(NULL, size, protection, flags, file, 0);

	answer(key, differences(bytes));
	munmap(bytes, size);
}

static void compare_all(void)
{
	char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	compare("private", PROT_READ, MAP_PRIVATE);
	compare("writable", PROT_READ | PROT_WRITE, MAP_PRIVATE);
	compare("shared", PROT_READ, MAP_SHARED);
	answer("read", pread(file, bytes, size, 0) == size ? differences(bytes) : -1);
	munmap(bytes, size);
}

int main(int argc, char **argv)
{
	struct stat status;

	parse_now(argc, argv);
	file = open("/proc/self/exe", O_RDONLY);
	if (file < 0 || fstat(file, &status))
		_exit(113);
	size = status.st_size;
	truth = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pread(file, truth, size, 0) != size)
		_exit(114);
	compare_all();
	stage("ready");
	compare_all();
	stage("during");
	compare_all();
	stage("done");
	return 0;
}
