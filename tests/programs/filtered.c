// build: -O1 -g -pthread -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * A seccomp filter answers calls before the kernel enters them: with an error, with success, or with
 * SIGSYS, whose handler makes the result. A thread and a child make such calls before any other. One
 * child is killed by its call.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "answers.h"

#define MAIN 101
#define THREAD 13
#define CHILD 7
#define SUCCEEDED 11
#define TRAPPED 17

#define ON(call, action) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1), BPF_STMT(BPF_RET | BPF_K, action)

static int install(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ON(SYS_getppid, SECCOMP_RET_ERRNO | EPERM),
		ON(SYS_getpriority, SECCOMP_RET_ERRNO),
		ON(SYS_getsid, SECCOMP_RET_TRAP),
		ON(SYS_setsid, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(*filter), filter};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Every second trapped call succeeds. */
static void on_sigsys(int signal, siginfo_t *info, void *context)
{
	static int count;
	long result = count++ % 2 ? -EACCES : 77;

	(void)signal;
	(void)info;
#ifdef __x86_64__
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = result;
#else
	((ucontext_t *)context)->uc_mcontext.regs[0] = result;
#endif
}

static long refused(long calls)
{
	long count = 0;

	for (long i = 0; i < calls; i++)
		count += syscall(SYS_getppid) < 0 && errno == EPERM;
	return count;
}

static void *in_thread(void *result)
{
	*(long *)result = refused(THREAD);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
	long in_main, succeeded = 0, trapped = 0, failed = 0, threaded = 0;
	pthread_t thread;
	int status;

	parse_now(argc, argv);
	sigaction(SIGSYS, &action, NULL);
	if (install())
		return 1;
	stage("ready");
	in_main = refused(MAIN);
	if (fork() == 0)
		_exit(refused(CHILD) == CHILD ? 0 : 1);
	wait(&status);
	pthread_create(&thread, NULL, in_thread, &threaded);
	pthread_join(thread, NULL);
	for (int i = 0; i < SUCCEEDED; i++)
		succeeded += syscall(SYS_getpriority, 0, 0) == 0;
	for (int i = 0; i < TRAPPED; i++) {
		trapped++;
		failed += syscall(SYS_getsid, 0) < 0 && errno == EACCES;
	}
	if (fork() == 0) {
		signal(SIGSYS, SIG_DFL);
		syscall(SYS_setsid);
		_exit(0);
	}
	answer("child", WIFEXITED(status) && !WEXITSTATUS(status) ? CHILD : -1);
	wait(&status);
	answer("killed_by", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	answer("refused", in_main + threaded);
	answer("succeeded", succeeded);
	answer("trapped", trapped);
	answer("trapped_errors", failed);
	stage("done");
	return 0;
}
