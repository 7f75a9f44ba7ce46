/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Everything that differs between x86-64 and arm64: registers, results, 32-bit callers.
 * The layouts of struct pt_regs are the kernel's own (arch/x86/include/asm/ptrace.h,
 * arch/arm64/include/asm/ptrace.h); they are ABI for BPF programs.
 */
#ifndef KWATCH_ARCH_H
#define KWATCH_ARCH_H

#include "unwind_rows.h"

/*
 * Not under bcc's name: for each call of bpf_probe_read_user, bcc searches all of /proc/kallsyms for
 * the helper, which takes longer than to compile the programs.
 */
static long (*read_user)(void *to, u32 size, const void *from) = (void *)BPF_FUNC_probe_read_user;

/* bpf_rdonly_cast() (Linux 6.2): the loader makes a call of the kernel's function of this one. */
static void *(*rdonly_cast)(u64 address, u32 type) = (void *)RDONLY_CAST;

/*
 * A member of a structure of the kernel, whose `type` is its id in the kernel's BTF. Where the kernel
 * can check the access when it loads the program, this costs no call.
 */
static __always_inline u32 kernel_member(u64 structure, u32 type, u32 offset)
{
#if RDONLY_CAST
	return *(volatile u32 *)(rdonly_cast(structure, type) + offset);
#else
	u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)structure + offset);
	return value;
#endif
}

/* The registers at which unwinding starts. `link`: x30 (arm64); 0 if it is not known. */
struct registers {
	u64 pc;
	u64 sp;
	u64 fp;
	u64 link;
};

#if defined(__x86_64__)

struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

#define ARG0(regs) ((regs)->di)
#define ARG1(regs) ((regs)->si)
#define ARG2(regs) ((regs)->dx)
#define ARG3(regs) ((regs)->cx)
#define RESULT(regs) ((regs)->ax)
#define STACK_POINTER(regs) ((regs)->sp)
#define FRAME_POINTER(regs) ((regs)->bp)
#define INSTRUCTION_POINTER(regs) ((regs)->ip)
/* `ret` has popped the return address by the time a uretprobe runs. */
#define ENTRY_STACK_POINTER(regs) ((regs)->sp - 8)
/* The caller's stack pointer after the call, from the function's at its entry. */
#define CALLER_STACK_POINTER(entry) ((entry) + 8)
#define RETURN_PC(address) (address)

/* At a ret instruction. */
#define RETURN_ADDRESS(regs) read_return_address((regs)->sp)

static __always_inline u64 read_return_address(u64 sp)
{
	u64 address = 0;

	read_user(&address, sizeof(address), (void *)sp);
	return address;
}

/*
 * The return address of the function that was entered with this stack pointer. If it cannot be read,
 * it is assumed to be the expected one.
 */
static __always_inline u64 return_address_of(struct pt_regs *regs, u64 entry, u64 expected)
{
	u64 address = read_return_address(entry);

	return address ? address : expected;
}

static __always_inline u64 call_number(struct pt_regs *regs)
{
	u64 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), &regs->orig_ax);
	return (s64)(s32)number; /* the kernel ignores the upper half */
}

/* _TIF_SYSCALL_TRACE, _SYSCALL_EMU, _SECCOMP of Linux 5.10: arch/x86/include/asm/thread_info.h */
#define GUARDED_FLAGS (1 << 0 | 1 << 6 | 1 << 8)
#define TS_COMPAT 2 /* arch/x86/include/asm/thread_info.h */
#define X32_SYSCALL_BIT 0x40000000

/* `task`: the address of the thread's task_struct. */
static __always_inline u8 call_abi(u64 task, struct pt_regs *regs, u64 *nr)
{
	if (kernel_member(task, TASK_TYPE, THREAD_INFO_STATUS) & TS_COMPAT)
		return ABI_I386;
	if ((s64)*nr > 0 && *nr & X32_SYSCALL_BIT) {
		*nr &= ~X32_SYSCALL_BIT;
		return ABI_X32;
	}
	return ABI_X86_64;
}

/* The kernel's trampolines under uprobes make these, not the program: Linux 6.11, 6.18. */
#define NR_URETPROBE 335
#define NR_UPROBE 336

static __always_inline bool is_probe_call(struct pt_regs *regs, u64 nr)
{
	return (nr == NR_URETPROBE || nr == NR_UPROBE) &&
	       call_abi(bpf_get_current_task(), regs, &nr) == ABI_X86_64;
}

static __always_inline u64 first_argument_i386(struct pt_regs *regs)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), &regs->bx);
	return (u32)value;
}

/* Where the thread entered the kernel, or where it returns to. */
static __always_inline void user_position(struct pt_regs *regs, u64 *pc, u64 *sp)
{
	u64 values[4] = {}; /* ip, cs, flags, sp */

	bpf_probe_read_kernel(values, sizeof(values), &regs->ip);
	*pc = values[0];
	*sp = values[3];
}

static __always_inline void call_arguments(struct pt_regs *regs, u8 abi, u64 *arguments)
{
	struct pt_regs copy;

	if (bpf_probe_read_kernel(&copy, sizeof(copy), regs))
		return;
	if (abi == ABI_I386) {
		arguments[0] = (u32)copy.bx;
		arguments[1] = (u32)copy.cx;
		arguments[2] = (u32)copy.dx;
		arguments[3] = (u32)copy.si;
		return;
	}
	arguments[0] = copy.di;
	arguments[1] = copy.si;
	arguments[2] = copy.dx;
	arguments[3] = copy.r10;
}

/* The registers with which a thread entered the kernel. */
static __always_inline void entry_registers(struct pt_regs *regs, struct registers *found)
{
	struct pt_regs copy = {};

	bpf_probe_read_kernel(&copy, sizeof(copy), regs);
	found->pc = copy.ip;
	found->sp = copy.sp;
	found->fp = copy.bp;
	found->link = 0;
}

#define KERNEL_STACK (4 * 4096) /* THREAD_SIZE without KASAN: arch/x86/include/asm/page_64_types.h */

/* The registers that may hold pointers. False if they are not those of the program. */
static __always_inline bool user_registers(struct pt_regs *regs, void *found)
{
	u64 cs = 0;

	bpf_probe_read_kernel(found, __builtin_offsetof(struct pt_regs, orig_ax), regs);
	bpf_probe_read_kernel(found + __builtin_offsetof(struct pt_regs, orig_ax), sizeof(u64),
			      &regs->sp);
	bpf_probe_read_kernel(&cs, sizeof(cs), &regs->cs);
	return (cs & 3) == 3; /* privilege level */
}

#elif defined(__aarch64__)

struct pt_regs {
	unsigned long regs[31];
	unsigned long sp, pc, pstate;
	unsigned long orig_x0;
	s32 syscallno;
	u32 unused2;
};

#define ARG0(ctx) ((ctx)->regs[0])
#define ARG1(ctx) ((ctx)->regs[1])
#define ARG2(ctx) ((ctx)->regs[2])
#define ARG3(ctx) ((ctx)->regs[3])
#define RESULT(ctx) ((ctx)->regs[0])
#define STACK_POINTER(ctx) ((ctx)->sp)
#define FRAME_POINTER(ctx) ((ctx)->regs[29])
#define INSTRUCTION_POINTER(ctx) ((ctx)->pc)
#define ENTRY_STACK_POINTER(ctx) ((ctx)->sp)
#define RETURN_ADDRESS(ctx) ((ctx)->regs[30])
#define CALLER_STACK_POINTER(entry) (entry)
/* Without the bits of pointer authentication. */
#define RETURN_PC(address) ((address) & ARM64_PC_MASK)

static __always_inline bool is_probe_call(struct pt_regs *regs, u64 nr)
{
	return false;
}

static __always_inline u64 first_argument_i386(struct pt_regs *regs)
{
	return 0;
}

/* Where the thread entered the kernel, or where it returns to. */
static __always_inline void user_position(struct pt_regs *regs, u64 *pc, u64 *sp)
{
	u64 values[2] = {}; /* sp, pc */

	bpf_probe_read_kernel(values, sizeof(values), &regs->sp);
	*pc = values[1];
	*sp = values[0];
}

/*
 * The return address of the function that was entered with this stack pointer. The registers are of
 * a later call: at the same depth they have it; below, it is assumed to be the expected one.
 */
static __always_inline u64 return_address_of(struct pt_regs *regs, u64 entry, u64 expected)
{
	return regs->sp == entry ? regs->regs[30] : expected;
}

static __always_inline u64 call_number(struct pt_regs *regs)
{
	s32 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), &regs->syscallno);
	return (s64)number;
}

/* _TIF_SYSCALL_TRACE, _SECCOMP, _SYSCALL_EMU: arch/arm64/include/asm/thread_info.h */
#define GUARDED_FLAGS (1 << 8 | 1 << 11 | 1 << 12)
#define PSR_MODE32_BIT 0x10 /* arch/arm64/include/uapi/asm/ptrace.h */

static __always_inline u8 call_abi(u64 task, struct pt_regs *regs, u64 *nr)
{
	u32 offset = __builtin_offsetof(struct pt_regs, pstate);

	return kernel_member((u64)regs, REGISTERS_TYPE, offset) & PSR_MODE32_BIT ? ABI_ARM : ABI_AARCH64;
}

static __always_inline void call_arguments(struct pt_regs *regs, u8 abi, u64 *arguments)
{
	bpf_probe_read_kernel(arguments, 4 * sizeof(u64), &regs->regs[0]);
	bpf_probe_read_kernel(&arguments[0], sizeof(u64), &regs->orig_x0);
}

/* The registers with which a thread entered the kernel. */
static __always_inline void entry_registers(struct pt_regs *regs, struct registers *found)
{
	u64 values[4] = {}; /* x29, x30, sp, pc */

	bpf_probe_read_kernel(values, sizeof(values), &regs->regs[29]);
	found->fp = values[0];
	found->link = RETURN_PC(values[1]);
	found->sp = values[2];
	found->pc = values[3];
}

#define KERNEL_STACK (PAGE_SIZE > 16384 ? PAGE_SIZE : 16384) /* THREAD_SIZE, without KASAN */

/* The registers that may hold pointers. False if they are not those of the program. */
static __always_inline bool user_registers(struct pt_regs *regs, void *found)
{
	u64 pstate = 0;

	bpf_probe_read_kernel(found, __builtin_offsetof(struct pt_regs, pc), regs);
	bpf_probe_read_kernel(&pstate, sizeof(pstate), &regs->pstate);
	return !(pstate & 0xf); /* exception level 0 */
}

#else
#error "kwatch supports x86-64 and arm64"
#endif

#endif
