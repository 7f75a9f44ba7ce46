// build: -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * x86-64: one 64-bit program enters the kernel by three ways with different system call numbers:
 * 64 is getppid by int 0x80 and semget by syscall; 110 is iopl by int 0x80 and getppid by syscall.
 * The kernel may have x32 disabled; the call still enters the kernel.
 */
#include <sys/syscall.h>

#include "answers.h"

#define NATIVE 307
#define INT80 211
#define X32 101
#define I386_GETPPID 64
#define X32_GETPPID (0x40000000 + 110)

static long int80(long number)
{
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number) : "memory", "r8", "r9", "r10", "r11");
	return result;
}

int main(int argc, char **argv)
{
	parse_now(argc, argv);
	stage("ready");
	for (int i = 0; i < NATIVE; i++)
		syscall(SYS_getppid);
	for (int i = 0; i < INT80; i++)
		int80(I386_GETPPID);
	for (int i = 0; i < X32; i++)
		syscall(X32_GETPPID);
	answer("getppid", NATIVE + INT80 + X32);
	stage("done");
	return 0;
}
