// build: -m32 -static -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * System calls of a 32-bit program. Their numbers are other calls in the 64-bit table: open is 5
 * (fstat there), close 6 (lstat), getppid 64 (semget), access 33 (dup2).
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "answers.h"

#define GETPPIDS 211
#define OPENS 101
#define ACCESSES 43
#define MAPPINGS 23
#define UNMAPPINGS 7
#define MAPPING 12288

/* The oldest mmap call: on i386 it takes a pointer to the arguments. */
static void *map(void)
{
	unsigned long arguments[] = {0, MAPPING, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0};

#ifdef __i386__
	return (void *)syscall(SYS_mmap, arguments);
#else
	return (void *)syscall(SYS_mmap2, arguments[0], arguments[1], arguments[2], arguments[3],
			       arguments[4], arguments[5]);
#endif
}

int main(int argc, char **argv)
{
	parse_now(argc, argv);
	stage("ready");
	for (int i = 0; i < GETPPIDS; i++)
		syscall(SYS_getppid);
	for (int i = 0; i < OPENS; i++)
		syscall(SYS_close, syscall(SYS_open, "/dev/null", O_RDONLY));
	for (int i = 0; i < ACCESSES; i++)
		syscall(SYS_access, "/nonexistent", F_OK);
	for (int i = 0; i < MAPPINGS; i++) {
		void *mapping = map();

		if (i < UNMAPPINGS)
			munmap(mapping, MAPPING);
	}
	answer("mapped_bytes", (MAPPINGS - UNMAPPINGS) * MAPPING);
	answer("getppid", GETPPIDS);
	answer("open", OPENS);
	answer("close", OPENS);
	answer("access", ACCESSES);
	answer("errors", ACCESSES);
	stage("done");
	return 0;
}
