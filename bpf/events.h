/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The wire format: what the BPF programs write into the rings and Python reads.
 *
 * Every record begins with its type. The records of the syscall rings and of the heap rings have one
 * size each. The control ring carries records of several sizes; it is a perf ring, and their members
 * are packed on 4 bytes, because perf puts its own 4-byte length in front of each record, so that
 * 64-bit members that follow a 4-byte one are aligned in the ring. kwatch/wire/events.py mirrors this
 * file and a test compiles it to compare the two.
 */
#ifndef KWATCH_EVENTS_H
#define KWATCH_EVENTS_H

#define KWATCH_COMM_LEN 16
#define KWATCH_STACK_CHUNK 16 /* frames in one stack record */
#define KWATCH_MAX_FRAMES 256 /* in a stack; deeper ones keep the innermost */
#define KWATCH_STACK_COPY 4096 /* bytes of stack memory in one record */
#define KWATCH_STACK_IDS 256 /* lower numbers have no frames: the function alone, or kwatch_call_stack */
#define KWATCH_RECORD __attribute__((packed, aligned(4)))

enum kwatch_event_type {
	/* syscall ring */
	EVENT_SYSCALL = 1,
	EVENT_SYSCALL_UNFINISHED, /* the thread ended inside the call */
	/* heap ring: what concerns blocks first, the most frequent of it first */
	EVENT_ALLOC,
	EVENT_FREE,
	EVENT_REALLOC_RELEASE, /* realloc was entered with this block: it has ended, unless ... */
	EVENT_REALLOC_KEEP, /* ... the same thread says that the call failed */
	EVENT_ALLOC_FAILED,
	EVENT_MAP,
	EVENT_UNMAP,
	EVENT_BRK,
	/* control ring */
	EVENT_FORK,
	EVENT_EXEC,
	EVENT_EXIT,
	EVENT_CODE_UNMAPPED,
	/* stack ring */
	EVENT_STACK,
	EVENT_STACK_MEMORY,
	EVENT_CALL_STACK, /* as EVENT_STACK, of a system call */
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
	LOSS_STACK_MEMORY_RING_FULL, /* a stack could not be finished; it is sent again */
	LOSS_STACK_SCRATCH_BUSY, /* the event arrived without a stack */
	LOSS_HEAP_CALL_ABANDONED, /* calls that seemed to be made by one that never returned */
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

/* What the syscall rings carry where system calls come with their stacks. */
struct kwatch_stacked_syscall {
	struct kwatch_syscall call;
	__u64 stack; /* identifies the frames in a kwatch_stack, or is a kwatch_call_stack */
};

/* Instead of a stack: why there is none. */
enum kwatch_call_stack {
	CALL_STACK_LOST,
	CALL_STACK_OFF, /* of the exec by which kwatch launches a command */
	CALL_STACK_UNSUPPORTED, /* of a 32-bit caller */
};

struct kwatch_heap {
	__u8 type;
	__u8 function; /* the probed function, an index into kwatch/wire/allocators.py */
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
	__u64 mm_id; /* of the child: see kwatch_exec */
	__u8 comm[KWATCH_COMM_LEN];
} KWATCH_RECORD;

struct kwatch_exec {
	struct kwatch_control head;
	__u32 matched; /* the process is a target under its new name */
	__u32 old_tid; /* of the thread that made the call; it leads the process now */
	__u64 start_ns; /* CLOCK_BOOTTIME */
	__u64 mm_id; /* tells this address space from every other; 0 if it is no target's */
	__u8 comm[KWATCH_COMM_LEN];
} KWATCH_RECORD;

struct kwatch_exit {
	struct kwatch_control head;
	__u32 status; /* as wait() has it, of the last thread */
	__u64 start_ns; /* CLOCK_BOOTTIME */
	__u8 comm[KWATCH_COMM_LEN]; /* of the first thread */
} KWATCH_RECORD;

/* Something was unmapped or mapped over where code lay. */
struct kwatch_code_unmapped {
	struct kwatch_control head;
	__u32 unmaps; /* how many of these the address space has had */
	__u64 start;
	__u64 size; /* 0: other code lies there, which PERF_RECORD_MMAP2 has told of before */
} KWATCH_RECORD;

/* Whether unwinding came to a mapping that Python had not told of yet, but may know by now. */
enum kwatch_stack_copy {
	COPY_NOT_NEEDED,
	COPY_SENT, /* the kwatch_stack_memory before this are of the same stack */
	COPY_SPARED, /* there were too many: frames from `exact` on are a guess */
};

/* A stack that was not seen before, innermost frame first, in chunks. */
struct kwatch_stack {
	struct kwatch_control head;
	__u16 first; /* index of frames[0] in the whole stack */
	__u16 total; /* frames in the whole stack; those used here end there or with the array */
	__u16 exact; /* frames before the first step by frame pointer; total if there is none */
	__u8 end; /* enum kwatch_stack_end of unwind_rows.h, with its flag */
	__u8 copy; /* enum kwatch_stack_copy */
	__u64 stack;
	__u64 frames[KWATCH_STACK_CHUNK];
} KWATCH_RECORD;

/*
 * A piece of the stack of a thread whose unwinding came to an unknown mapping, with the registers
 * of that frame. Pieces follow each other upwards from sp. The stack's id contains a hash of all
 * that is sent: two calls with the same id have the same callers.
 */
struct kwatch_stack_memory {
	struct kwatch_control head;
	__u64 stack;
	__u64 pc;
	__u64 sp;
	__u64 fp;
	__u64 link; /* x30 (arm64); 0 if it is not known */
	__u32 frame; /* the frame's index in the stack */
	__u32 offset; /* of the piece, from sp */
	__u32 size; /* bytes of the piece */
	__u32 interrupted; /* pc is where a signal came, not a return address */
} KWATCH_RECORD;

#endif
