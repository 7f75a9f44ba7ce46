/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Unwind tables: what Python makes of .eh_frame and the BPF programs read. kwatch/wire/unwind_rows.py
 * mirrors this file and a test compiles it to compare the two.
 *
 * A table is the code of one file. `pc` counts from the table's base, a multiple of
 * KWATCH_BLOCK_SIZE, so that for a mapping of the file
 *
 *	pc = address - bias		(bias: one number per mapping, made by Python)
 *
 * Rows are sorted by pc, no two have the same; a row holds from its pc up to that of the next.
 * The first row has pc 0 and the last is ROW_NONE. blocks[b] is the index of the row that holds at
 * pc = b * KWATCH_BLOCK_SIZE; there is one block more than the code has, so the row for pc lies
 * in rows[blocks[b]] .. rows[blocks[b + 1]], both included, b = pc / KWATCH_BLOCK_SIZE: the last
 * one whose pc is not greater. At most KWATCH_BLOCK_STEPS halvings find it.
 *
 * Rows are looked up at the return address less one, in the call; but at the address itself for
 * the innermost frame and for one that a signal interrupted (the frame after ROW_SIGNAL).
 */
#ifndef KWATCH_UNWIND_ROWS_H
#define KWATCH_UNWIND_ROWS_H

#define KWATCH_BLOCK_SHIFT 8
#define KWATCH_BLOCK_SIZE (1 << KWATCH_BLOCK_SHIFT)
#define KWATCH_BLOCK_STEPS 9

struct kwatch_row {
	__u32 pc;
	__u32 rule;
};

/*
 * How to get from a frame to its caller. sp, fp and pc are the frame's own; CFA is the caller's
 * sp. A CFA that is not above sp means STACK_CORRUPT. It may be equal to sp in the innermost frame
 * and in one that a signal interrupted: there the return address is in x30 (arm64), or was popped
 * and is still below sp (x86-64: vfork). A return address of 0 means STACK_COMPLETE.
 */
enum kwatch_row_kind {
	ROW_NONE, /* no function, or one without unwind information: try the frame pointer */
	ROW_UNSUP, /* rules that a row cannot say: STACK_UNSUPPORTED */
	ROW_END, /* the outermost frame, such as _start or clone3: STACK_COMPLETE */
	ROW_SIGNAL, /* the signal trampoline: sp, fp, pc (and x30) are at sp + SIGNAL_* */
	/* x86-64 only; the return address is at CFA - 8, the caller's fp by ROW_X86_FP() */
	ROW_SP, /* CFA = sp + ROW_X86_CFA() */
	ROW_FP, /* CFA = fp + ROW_X86_CFA() */
	ROW_PLT, /* CFA = sp + 8 + ((address & 15) >= ROW_X86_CFA() ? 8 : 0); fp unchanged */
	ROW_DEREF, /* CFA = *(fp + ROW_X86_CFA()): functions that realign the stack */
	/* arm64 only: from here on, flags; the caller's x29 and the return address by the flags */
	ROW_ARM64, /* CFA = sp + ROW_ARM64_CFA() */
	ROW_ARM64_FP_BASE = 1, /* CFA = x29 + ROW_ARM64_CFA() */
	ROW_ARM64_RA_MASK = 6,
	ROW_ARM64_RA_REG = 0, /* return address in x30, x29 unchanged */
	ROW_ARM64_RA_PAIR = 2, /* x29 at slot, return address at slot + 8 */
	ROW_ARM64_RA_ALONE = 4, /* return address at slot, x29 unchanged */
	ROW_ARM64_RA_REG_FP = 6, /* x29 at slot, return address in x30 */
	/* slot = CFA - ROW_ARM64_SLOT(). In x30 only for the innermost frame and after ROW_SIGNAL;
	 * elsewhere STACK_UNSUPPORTED. The bits of pointer authentication are cleared from a return
	 * address: the low 48 are left. */
};

#define ROW_KIND(rule) ((rule) & 15)

/* x86-64: bits 0-3 kind, 7 the CFA offset is in units of 8, 8-15 fp (signed), 16-31 CFA (signed) */
#define ROW_X86_SCALED 0x80
#define ROW_X86_CFA(rule) \
	((__s64)(__s16)((rule) >> 16) * ((rule) & ROW_X86_SCALED ? 8 : 1))
#define ROW_X86_FP(rule) ((__s64)(__s8)((rule) >> 8))
#define ROW_X86_FP_SAME 0 /* the caller's fp is this frame's */
#define ROW_X86_FP_AT_FP 1 /* the caller's fp is at *fp */
/* below 0: the caller's fp is at CFA + 8 * ROW_X86_FP(); -2 is the word below the return address */

/* arm64: bits 0-3 kind and flags, 4-17 slot / 8, 18-31 CFA offset / 8, both unsigned */
#define ROW_ARM64_SLOT(rule) ((((rule) >> 4) & 0x3fff) * 8)
#define ROW_ARM64_CFA(rule) (((rule) >> 18) * 8)
#define ARM64_PC_MASK ((1ULL << 48) - 1)

/* struct rt_sigframe of the kernels, from the sp at which the trampoline runs */
#define SIGNAL_X86_FP 120
#define SIGNAL_X86_SP 160
#define SIGNAL_X86_PC 168
#define SIGNAL_ARM64_FP 544
#define SIGNAL_ARM64_LR 552
#define SIGNAL_ARM64_SP 560
#define SIGNAL_ARM64_PC 568

/*
 * The frame pointer, where there is no row: fp must be a multiple of 8 and not below sp; the
 * caller's fp is at fp, the return address at fp + 8, the caller's sp is fp + 16; from there rows
 * are tried again. A chain that fails keeps the reason for which it was tried: STACK_NO_MAPPING or
 * STACK_NO_ROW. After at least one such step, fp = 0 is the end: STACK_COMPLETE.
 */

/* How a stack ended. */
enum kwatch_stack_end {
	STACK_COMPLETE, /* the outermost frame was reached */
	STACK_NO_MAPPING, /* code that lies in no known mapping */
	STACK_NO_ROW, /* code that its file's table does not cover, or of no file with a table */
	STACK_UNSUPPORTED, /* ROW_UNSUP, or x30 where it is not known */
	STACK_UNREADABLE, /* memory of the stack could not be read, or was not copied */
	STACK_CORRUPT, /* the caller's frame is not above this one */
	STACK_TOO_DEEP, /* the innermost frames are all that is kept */
	STACK_ENDS,
};

#define STACK_BY_FRAME_POINTER 0x80 /* or'ed: at least one step was by frame pointer */

#endif
