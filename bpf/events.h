/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The wire format: what the BPF programs write into the rings and Python reads.
 *
 * Every record begins with its type. The records of the syscall rings and of the heap rings have one
 * size each. The control ring carries records of several sizes; it is a perf ring, and their members
 * are packed on 4 bytes, because perf puts its own 4-byte length in front of each record, so that
 * 64-bit members that follow a 4-byte one are aligned in the ring. kwatch/events.py mirrors this
 * file and a test compiles it to compare the two.
 */
#ifndef KWATCH_EVENTS_H
#define KWATCH_EVENTS_H

#define KWATCH_COMM_LEN 16
#define KWATCH_STACK_CHUNK 16 /* frames in one stack record */
#define KWATCH_MAX_FRAMES 128 /* in a stack; deeper ones keep the innermost */
#define KWATCH_RECORD __attribute__((packed, aligned(4)))

enum kwatch_event_type {
	/* syscall ring */
	EVENT_SYSCALL = 1,
	EVENT_SYSCALL_UNFINISHED, /* the thread ended inside the call */
	/* heap ring */
	EVENT_ALLOC,
	EVENT_ALLOC_FAILED,
	EVENT_FREE,
	EVENT_REALLOC_RELEASE, /* realloc was entered with this block: it has ended, unless ... */
	EVENT_REALLOC_KEEP, /* ... the same thread says that the call failed */
	EVENT_MAP,
	EVENT_UNMAP,
	EVENT_BRK,
	/* control ring */
	EVENT_FORK,
	EVENT_EXEC,
	EVENT_EXIT,
	EVENT_STACK,
};

/* Which table a system call number belongs to. */
enum kwatch_abi {
	ABI_X86_64,
	ABI_I386,
	ABI_X32,
	ABI_AARCH64,
	ABI_ARM,
};

/* Why something that happened was not delivered whole. */
enum kwatch_loss {
	LOSS_SYSCALL_RING_FULL,
	LOSS_HEAP_RING_FULL,
	LOSS_CONTROL_RING_FULL,
	LOSS_STACK_RING_FULL, /* the event arrived, its frames did not; they are sent again */
	LOSS_CALLS_MAP_FULL,
	LOSS_THREADS_MAP_FULL,
	LOSS_TARGETS_MAP_FULL,
	LOSS_RESULT_UNREADABLE, /* posix_memalign succeeded, its result could not be read */
	LOSS_CAUSES,
};

struct kwatch_syscall {
	__u8 type;
	__u8 abi;
	__u16 nr;
	__u32 tid;
	__u64 time_ns; /* CLOCK_MONOTONIC, at the return */
	__u64 duration_ns;
	__s64 result;
	__u32 tgid;
	__u32 reserved;
};

struct kwatch_heap {
	__u8 type;
	__u8 function; /* the probed function, an index into kwatch/probes/table.py */
	__u16 reserved;
	__u32 tid;
	__u64 time_ns;
	__u64 address;
	__u64 size;
	__u64 stack; /* identifies the frames in a kwatch_stack; 0: none */
	__u32 tgid;
	__u32 reserved2;
};

struct kwatch_control {
	__u8 type;
	__u8 reserved[3];
	__u64 time_ns;
	__u32 tgid;
} KWATCH_RECORD;

struct kwatch_fork {
	struct kwatch_control head; /* tgid: the parent */
	__u32 child;
	__u64 child_start_ns; /* CLOCK_BOOTTIME */
	__u8 comm[KWATCH_COMM_LEN];
} KWATCH_RECORD;

struct kwatch_exec {
	struct kwatch_control head;
	__u32 matched; /* the process is a target under its new name */
	__u32 old_tid; /* of the thread that made the call; it leads the process now */
	__u64 start_ns; /* CLOCK_BOOTTIME */
	__u8 comm[KWATCH_COMM_LEN];
} KWATCH_RECORD;

struct kwatch_exit {
	struct kwatch_control head;
	__u32 reserved;
} KWATCH_RECORD;

/* A stack that was not seen before, innermost frame first, in chunks. */
struct kwatch_stack {
	struct kwatch_control head;
	__u16 first; /* index of frames[0] in the whole stack */
	__u16 count; /* frames used in this chunk; the last is not full, or ends at KWATCH_MAX_FRAMES */
	__u64 stack;
	__u64 frames[KWATCH_STACK_CHUNK];
} KWATCH_RECORD;

#endif
