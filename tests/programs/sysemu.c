// build: -O1 -g -static
// SPDX-License-Identifier: Apache-2.0
/*
 * A tracer that emulates the system calls of its child (PTRACE_SYSEMU), as user-mode kernels do. The
 * child allocates between two calls of getppid. `calls` counts what the tracer saw, `foreign` the
 * calls that the child did not make. The child is stopped at the first one while `ready` is shown:
 * its pid is the answer `child`.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "answers.h"

#define PTRACE_SYSEMU_REQUEST 31
#define BLOCKS 101

static void *volatile blocks[BLOCKS];
static long calls, foreign;

static void child(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	blocks[0] = malloc(100000);
	free(blocks[0]);
	raise(SIGSTOP);
	syscall(SYS_getppid);
	for (int i = 0; i < BLOCKS; i++)
		blocks[i] = malloc(40 + i % 7);
	syscall(SYS_getppid);
	for (;;)
		;
}

static void next_call(pid_t pid)
{
	struct user_regs_struct registers;
	int status;

	ptrace(PTRACE_SYSEMU_REQUEST, pid, NULL, NULL);
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
		_exit(113);
	ptrace(PTRACE_GETREGS, pid, NULL, &registers);
	calls++;
	foreign += registers.orig_rax != SYS_getppid;
	registers.rax = 17;
	ptrace(PTRACE_SETREGS, pid, NULL, &registers);
}

int main(int argc, char **argv)
{
	pid_t pid = fork();
	int status;

	parse_now(argc, argv);
	if (!pid)
		child();
	waitpid(pid, &status, 0);
	next_call(pid);
	answer("child", pid);
	stage("ready");
	next_call(pid);
	answer("calls", calls);
	answer("foreign", foreign);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	stage("done");
	return 0;
}
