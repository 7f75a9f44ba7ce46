/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The arguments of a system call as the program passed them, and where it was made. */
#ifndef KWATCH_CALL_REGISTERS_H
#define KWATCH_CALL_REGISTERS_H

/* A register that the program had. Where the kernel can check the access, this costs no call. */
static __always_inline u64 saved_register(struct pt_regs *regs, u32 offset)
{
#if RDONLY_CAST
	return *(volatile u64 *)(rdonly_cast((u64)regs, REGISTERS_TYPE) + offset);
#else
	return read_u64(regs, offset);
#endif
}

static __always_inline u64 task_word(u64 task, u32 offset)
{
#if RDONLY_CAST
	return *(volatile u64 *)(rdonly_cast(task, TASK_TYPE) + offset);
#else
	return read_u64((void *)task, offset);
#endif
}

#define SAVED(regs, member) saved_register(regs, __builtin_offsetof(struct pt_regs, member))

#if defined(__x86_64__)

static __always_inline void all_arguments(struct pt_regs *regs, u8 abi, u64 *arguments)
{
	if (abi == ABI_I386) {
		arguments[0] = (u32)SAVED(regs, bx);
		arguments[1] = (u32)SAVED(regs, cx);
		arguments[2] = (u32)SAVED(regs, dx);
		arguments[3] = (u32)SAVED(regs, si);
		arguments[4] = (u32)SAVED(regs, di);
		arguments[5] = (u32)SAVED(regs, bp);
		return;
	}
	arguments[0] = SAVED(regs, di);
	arguments[1] = SAVED(regs, si);
	arguments[2] = SAVED(regs, dx);
	arguments[3] = SAVED(regs, r10);
	arguments[4] = SAVED(regs, r8);
	arguments[5] = SAVED(regs, r9);
}

static __always_inline u64 instruction_pointer(struct pt_regs *regs)
{
	return SAVED(regs, ip);
}

#else

static __always_inline void all_arguments(struct pt_regs *regs, u8 abi, u64 *arguments)
{
	u64 mask = abi == ABI_ARM ? 0xffffffff : -1ULL;

	arguments[0] = SAVED(regs, orig_x0) & mask;
	arguments[1] = SAVED(regs, regs[1]) & mask;
	arguments[2] = SAVED(regs, regs[2]) & mask;
	arguments[3] = SAVED(regs, regs[3]) & mask;
	arguments[4] = SAVED(regs, regs[4]) & mask;
	arguments[5] = SAVED(regs, regs[5]) & mask;
}

static __always_inline u64 instruction_pointer(struct pt_regs *regs)
{
	return SAVED(regs, pc);
}

#endif

/*
 * The arguments of the calls inside i386's socketcall and ipc, in place of those calls' own. `words`
 * is in a map: the verifier of 5.10 allows no variable index into the stack.
 */
static __always_inline void inner_arguments(u64 nr, u32 order, u64 *words)
{
	u64 raw[CAPTURE_CELLS];
	u32 inner[CAPTURE_CELLS] = {};

	if (nr >= SOCKETCALL_NUMBERS && nr < IPC_NUMBERS) {
		read_user(inner, sizeof(inner), (void *)words[1]);
#pragma unroll
		for (int i = 0; i < CAPTURE_CELLS; i++)
			words[i] = inner[i];
		return;
	}
	if (order == CAPTURE_IN_ORDER || !order)
		return;
#pragma unroll
	for (int i = 0; i < CAPTURE_CELLS; i++)
		raw[i] = words[order >> (4 * i) & 7];
#pragma unroll
	for (int i = 0; i < CAPTURE_CELLS; i++)
		words[i] = raw[i];
}

#endif
