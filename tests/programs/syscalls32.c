// build: -m32 -static -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * System calls of a 32-bit program. Their numbers are other calls in the 64-bit table: open is 5
 * (fstat there), close 6 (lstat), getppid 64 (semget), access 33 (dup2).
 */
#include <fcntl.h>
#include <linux/net.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/socket.h>
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

#ifdef __i386__
#define SEMOP 1 /* linux/ipc.h cannot be included beside sys/ipc.h */
#define SEMGET 2
#define SEMCTL 3
#define QUEUED 5
#define PERF_EVENTS 3
#define CONNECTS 11
#define SEMOPS 13
#define FSUIDS 9
#define NO_CALL 961 /* kwatch's own number for a call inside socketcall */

static void inner_calls(void)
{
	struct sockaddr nobody = {.sa_family = AF_UNIX, .sa_data = "/nonexistent"};
	long socket[] = {AF_UNIX, SOCK_STREAM, 0};
	long connect[] = {syscall(SYS_socketcall, SYS_SOCKET, socket), (long)&nobody, sizeof(nobody)};
	long set = syscall(SYS_ipc, SEMGET, IPC_PRIVATE, 1, 0600, 0, 0);
	struct sembuf up = {0, 1, 0};
	long none = 0;

	for (int i = 0; i < CONNECTS; i++)
		syscall(SYS_socketcall, SYS_CONNECT, connect);
	for (int i = 0; i < SEMOPS; i++)
		syscall(SYS_ipc, SEMOP, set, 1, 0, &up, 0);
	syscall(SYS_ipc, SEMCTL, set, 0, IPC_RMID, &none, 0);
	syscall(SYS_socketcall, 77, connect);
	syscall(SYS_ipc, 77, 0, 0, 0, 0, 0);
}

/* Numbers that mean probes on x86-64, and a user whose number looks like an error. */
static void odd_calls(void)
{
	for (int i = 0; i < QUEUED; i++)
		syscall(SYS_rt_tgsigqueueinfo, -1, -1, 0, 0);
	for (int i = 0; i < PERF_EVENTS; i++)
		syscall(SYS_perf_event_open, 0, 0, 0, 0, 0);
	for (int i = 0; i < FSUIDS; i++)
		syscall(SYS_setfsuid32, -2);
	syscall(SYS_setfsuid32, 0);
	syscall(NO_CALL);
}
#endif

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
#ifdef __i386__
	inner_calls();
	odd_calls();
#endif
	answer("mapped_bytes", (MAPPINGS - UNMAPPINGS) * MAPPING);
	answer("getppid", GETPPIDS);
	answer("open", OPENS);
	answer("close", OPENS);
	answer("access", ACCESSES);
	answer("errors", ACCESSES);
#ifdef __i386__
	answer("unknown", 1);
#else
	answer("unknown", 0);
#endif
	stage("done");
	return 0;
}
