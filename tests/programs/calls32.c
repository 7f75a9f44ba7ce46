// build: -O1 -g -D_GNU_SOURCE -static
// SPDX-License-Identifier: Apache-2.0
/*
 * Calls of the i386 ABI from a 64-bit program: what they point to lies below 4 GiB. Numbers from
 * arch/x86/entry/syscalls/syscall_32.tbl. Prints nothing: its calls are compared with strace's lines.
 */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	NR_OPEN = 5,
	NR_UNLINK = 10,
	NR_SOCKETCALL = 102,
	NR_IPC = 117,
	NR_READV = 145,
	NR_WRITEV = 146,
};

struct memory {
	uint32_t words[8];
	uint32_t vector[4];
	char path[64];
	char text[64];
	char buffers[2][64];
};

static long call(long nr, long a, long b, long c, long d, long e)
{
	long result;

	asm volatile("int $0x80"
		     : "=a"(result)
		     : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
		     : "memory", "r8", "r9", "r10", "r11");
	return result;
}

#define LOW(pointer) ((uint32_t)(uintptr_t)(pointer))

int main(void)
{
	struct memory *m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long fd;

	if (m == MAP_FAILED)
		return 1;
	strcpy(m->path, "/etc/hostname");
	strcpy(m->text, "some text");
	fd = call(NR_OPEN, LOW(m->path), 0, 0, 0, 0);
	m->vector[0] = LOW(m->buffers[0]);
	m->vector[1] = 3;
	m->vector[2] = LOW(m->buffers[1]);
	m->vector[3] = 60;
	call(NR_READV, fd, LOW(m->vector), 2, 0, 0);
	m->vector[0] = LOW(m->text);
	m->vector[1] = 4;
	call(NR_WRITEV, -1, LOW(m->vector), 2, 0, 0);
	strcpy(m->path, "/nonexistent");
	call(NR_UNLINK, LOW(m->path), 0, 0, 0, 0);
	m->words[0] = 1; /* AF_UNIX */
	m->words[1] = 2; /* SOCK_DGRAM */
	call(NR_SOCKETCALL, 1, LOW(m->words), 0, 0, 0); /* socket */
	m->words[3] = LOW(&m->words[6]);
	call(NR_SOCKETCALL, 8, LOW(m->words), 0, 0, 0); /* socketpair */
	call(NR_IPC, 23, 0x1234, 4096, 0600, 0); /* shmget */
	return 0;
}
