/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The rows of the capture plan: what to read from a program's memory at a system call.
 * kwatch/syscalls/capture_format.py mirrors this file and says what each member means; a test compiles
 * both and compares them.
 */
#ifndef KWATCH_CAPTURE_ROWS_H
#define KWATCH_CAPTURE_ROWS_H

#define CAPTURE_CELLS 6
#define CAPTURE_PIECES 13 /* of each cell at the entry, at the exit, and the nested argument's */
#define CAPTURE_NO_LIMIT 15
#define CAPTURE_LOW_32 128 /* of a source: an int, whose upper half may be anything */
#define CAPTURE_NO_SELECTOR 255
#define CAPTURE_IN_ORDER 0x543210

enum capture_what {
	WHAT_NONE,
	WHAT_STRING,
	WHAT_BYTES,
	WHAT_POINTERS,
	WHAT_IOCTL,
};

enum capture_when {
	WHEN_ENTRY = 1,
	WHEN_EXIT = 2,
	WHEN_ON_ERROR = 4,
};

enum capture_from {
	FROM_CONSTANT,
	FROM_ARGUMENT,
	FROM_RESULT,
	FROM_POINTEE,
	FROM_BITS,
	FROM_PAGES,
	FROM_SECOND,
};

enum capture_nested_kind {
	NESTED_NONE,
	NESTED_IOVEC,
	NESTED_MSGHDR,
	NESTED_MMSGHDR,
	NESTED_STRINGS,
	NESTED_POINTER,
};

enum capture_row_flag {
	CAPTURE_KNOWN = 1,
	CAPTURE_INDIRECT = 2,
};

/* More flags of a row, which Python adds: most calls then need no look at their cells. */
enum capture_pieces {
	PIECES_AT_ENTRY = 16,
	PIECES_AT_EXIT = 32,
	PIECES_ON_ERROR = 64,
};

/* The upper half of `selector`. */
enum capture_selector {
	SELECTOR_SOCKET_LEVEL = 16,
	SELECTOR_LOW_7_BITS = 32,
	SELECTOR_WITHOUT_IPC_64 = 64,
};

struct capture_cell {
	__u8 what;
	__u8 when; /* enum capture_when; upper half: words of 4 bytes more */
	__u8 source;
	__u8 operand;
	__u16 scale;
	__u16 cap;
};

struct capture_nested {
	__u8 what;
	__u8 word;
	__u8 when;
	__u8 source;
	__u8 operand;
	__u8 pad;
	__u16 cap;
};

struct capture_row {
	struct capture_cell cells[CAPTURE_CELLS];
	struct capture_nested nested;
	__u8 effect;
	__u8 words;
	__u8 flags;
	__u8 selector;
	__u32 order;
};

struct capture_key {
	__u32 number; /* the index of the call's own row */
	__u32 command;
};

#endif
