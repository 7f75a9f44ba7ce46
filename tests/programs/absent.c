// build: -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * Calls with arguments in pages that the process has not mapped yet: a path, a path of which the
 * first page is there, and bytes that nothing ever reads. A vector of strings lies across two pages
 * behind which there is no other, as at the end of a stack.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "answers.h"

int main(int argc, char **argv)
{
	long page = sysconf(_SC_PAGESIZE);
	int file = memfd_create("paths", 0), null = open("/dev/null", O_WRONLY);
	char *pages, *untouched, **vector;

	parse_now(argc, argv);
	if (ftruncate(file, 2 * page))
		return 1;
	pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	untouched = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED || untouched == MAP_FAILED)
		return 1;
	vector = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vector == MAP_FAILED || munmap((char *)vector + 2 * page, page))
		return 1;
	vector += page / sizeof(*vector) - 2;
	for (int i = 0; i < 4; i++)
		vector[i] = "word";
	strcpy(pages, "/absent/whole");
	strcpy(pages + page - 4, "/absent/half");
	stage("ready");
	execve("/absent/program", vector, vector);
	madvise(pages, 2 * page, MADV_DONTNEED);
	access(pages, F_OK);
	madvise(pages, 2 * page, MADV_DONTNEED);
	pages[page - 4] = '/'; /* maps this page, and not those around it as a read would */
	access(pages + page - 4, F_OK);
	if (pwrite(null, untouched, 16, 0) != 16)
		return 1;
	stage("done");
	return 0;
}
