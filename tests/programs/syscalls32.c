// build: -m32 -static -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * System calls of a 32-bit program. Their numbers mean something else in the 64-bit table: open is
 * 5 (there fstat), close 6 (lstat), getppid 64 (semget), access 33 (dup2).
 */
#include <fcntl.h>
#include <sys/syscall.h>

#include "answers.h"

#define GETPPIDS 211
#define OPENS 101
#define ACCESSES 43

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
	answer("getppid", GETPPIDS);
	answer("open", OPENS);
	answer("close", OPENS);
	answer("access", ACCESSES);
	answer("errors", ACCESSES);
	stage("done");
	return 0;
}
