/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * memleak's program includes this file as <uapi/linux/ptrace.h>; kwatch's shim does not have it.
 * The layouts are the kernel's (arch/x86/include/asm/ptrace.h,
 * arch/arm64/include/uapi/asm/ptrace.h).
 */
#ifndef BENCH_PTRACE_H
#define BENCH_PTRACE_H

#include <linux/types.h>

#if defined(__x86_64__)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#elif defined(__aarch64__)
struct user_pt_regs {
	unsigned long regs[31];
	unsigned long sp, pc, pstate;
};
struct pt_regs {
	struct user_pt_regs user_regs;
	unsigned long orig_x0;
	s32 syscallno;
	u32 unused2;
};
#endif

#endif
