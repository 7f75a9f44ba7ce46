// build: -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/* Calls getppid, installs a seccomp filter that refuses it, and calls it again. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "answers.h"

#define ALLOWED 7
#define REFUSED 101

static int refuse(int number)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(*filter), filter};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
	long refused = 0;

	parse_now(argc, argv);
	stage("ready");
	for (int i = 0; i < ALLOWED; i++)
		syscall(SYS_getppid);
	if (refuse(SYS_getppid))
		return 1;
	for (int i = 0; i < REFUSED; i++)
		refused += syscall(SYS_getppid) < 0 && errno == EPERM;
	answer("getppid", ALLOWED + REFUSED);
	answer("refused", refused);
	stage("done");
	return 0;
}
