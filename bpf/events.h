/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The wire format: what the BPF programs write into the rings and Python reads.
 *
 * Every record begins with its type. All records of the syscall rings have one size, and so have
 * those of the heap rings. The control ring is a perf ring with records of several sizes. Their
 * members are packed to 4 bytes: perf puts a 4-byte length in front of each record, so 64-bit members
 * that follow a 4-byte one are aligned in the ring. kwatch/wire/events.py mirrors this file; a test
 * compiles both and compares them.
 */
#ifndef KWATCH_EVENTS_H
#define KWATCH_EVENTS_H

#define KWATCH_COMM_LEN 16
#define KWATCH_STACK_CHUNK 16 /* frames in one stack record */
#define KWATCH_MAX_FRAMES 256 /* of a stack; a deeper one keeps its innermost frames */
#define KWATCH_STACK_COPY 4096 /* bytes of stack memory in one record */
#define KWATCH_REGISTERS 32
#define KWATCH_STACK_IDS 256 /* lower ids mean a function alone, or a kwatch_call_stack */
#define KWATCH_RECORD __attribute__((packed, aligned(4)))

enum kwatch_event_type {
	/* syscall ring */
	EVENT_SYSCALL = 1,
	EVENT_SYSCALL_UNFINISHED, /* the thread ended inside the call */
	/* heap ring: events of blocks first, the most frequent ones first */
	EVENT_ALLOC,
	EVENT_FREE,
	EVENT_REUSED, /* a block began here and has ended, as EVENT_PAIRS says: none from before is live */
	EVENT_REALLOC_RELEASE, /* realloc was entered with this block, which is freed unless ... */
	EVENT_REALLOC_KEEP, /* ... this follows from the same thread: the call failed */
	EVENT_ALLOC_FAILED,
	EVENT_PAIRS, /* blocks that have begun and ended: see kwatch_heap */
	EVENT_RELEASES, /* which stack has released those of which stack */
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
	EVENT_CALL_STACK, /* like EVENT_STACK, for a system call */
	/* control ring: a kwatch_control alone */
	EVENT_DISPATCH, /* the process switches on Syscall User Dispatch */
	EVENT_LAST_REGISTERS,
	/* syscall ring, for records of single calls */
	EVENT_CALL_ENTRY, /* what a call got from the program; its end follows */
	EVENT_THREAD_END, /* `result`: its status, as wait() returns it */
	EVENT_SIGNAL, /* is delivered; `arguments`: the first bytes of its siginfo_t */
	EVENT_CALL_IN_PROGRESS, /* made by Python at its end, of a slot */
	EVENT_IO_REQUEST, /* a completion of io_uring: see io_uring.bpf.c */
	EVENT_IO_IN_PROGRESS, /* made by Python at its end, of an io_request */
	/* hit ring */
	EVENT_HIT,
};

/* Which table a system call number belongs to. */
enum kwatch_abi {
	ABI_X86_64,
	ABI_I386,
	ABI_X32,
	ABI_AARCH64,
	ABI_ARM,
};

/* Why an event was lost, or part of it. */
enum kwatch_loss {
	LOSS_SYSCALL_RING_FULL,
	LOSS_HEAP_RING_FULL,
	LOSS_CONTROL_RING_FULL,
	LOSS_STACK_RING_FULL, /* the event arrived without its frames, which are sent again */
	LOSS_SLOTS_FULL,
	LOSS_TARGETS_MAP_FULL,
	LOSS_RESULT_UNREADABLE, /* posix_memalign succeeded, but its result could not be read */
	LOSS_STACK_MEMORY_RING_FULL, /* a stack could not be finished; it is sent again */
	LOSS_STACK_SCRATCH_BUSY, /* the event arrived without a stack */
	LOSS_HEAP_CALL_ABANDONED, /* calls that seemed nested in one that never returned */
	LOSS_SHARED_HEAP_UNSEEN, /* a process that shares the memory used the allocator unseen */
	LOSS_MAIN_THREAD_ENDED, /* the probes of the other threads have ended with it */
	LOSS_CALL_CONTENT, /* the call arrived without some bytes of the program's memory */
	LOSS_THREAD_EVENT, /* a signal, or the end of a thread, of a trace */
	LOSS_HIT_RING_FULL,
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
	__u32 lap; /* see mapped_rings.h */
};

/* The records of the syscall rings when system calls have stacks. */
struct kwatch_stacked_syscall {
	struct kwatch_syscall call;
	__u64 stack; /* the id of a kwatch_stack, or a kwatch_call_stack */
};

enum kwatch_call_flag {
	RECORDED_ENTRY = 1, /* an EVENT_CALL_ENTRY with the same tid and seq came before */
	RECORDED_BYTES = 2, /* some pieces are not empty */
	RECORDED_LOST = 4, /* bytes were lost: LOSS_CALL_CONTENT */
	RECORDED_KEPT = 8, /* only of a call in progress: see capture_kept.h */
};

#define KWATCH_PIECES 13
#define KWATCH_NO_PIECE 0xffff
#define KWATCH_PLACE_BITS 48

/*
 * The records of the syscall rings when each call is recorded. `pieces`: the lengths of what was read,
 * see kwatch/syscalls/capture_format.py, KWATCH_NO_PIECE for what was not. They lie one after the other
 * in the area of a CPU, whose number is in the upper bits of `place`: see capture_area.h.
 */
struct kwatch_call {
	struct kwatch_syscall call;
	__u64 arguments[6];
	__u64 ip; /* after the instruction that entered the kernel */
	__u64 place;
	__u32 seq; /* counts the calls of a thread */
	__u16 flags; /* enum kwatch_call_flag */
	__u16 pieces[KWATCH_PIECES];
	__u64 comm[KWATCH_COMM_LEN / 8]; /* of the thread, at the entry */
	__u64 cgroup_id; /* this and uid are 0 of a request of io_uring */
	__u64 stack; /* see kwatch_stacked_syscall; 0 if calls have no stacks */
	__u32 uid;
	__u32 entry_tid; /* an exec may have changed it since */
};

enum kwatch_hit_flag {
	HIT_IN_KERNEL = 1, /* the kernel accessed the memory, for the thread */
	HIT_HAS_VALUE = 2,
};

#define KWATCH_NO_CALL 0xffff

/* An access to a watched address. */
struct kwatch_hit {
	__u8 type;
	__u8 abi; /* of the call */
	__u16 nr; /* the system call that made the access, or KWATCH_NO_CALL */
	__u32 tid;
	__u64 time_ns;
	__u64 address; /* that is watched */
	__u64 ip; /* of the program: see watch.bpf.c; in the kernel, where the program entered it */
	__u64 sp; /* of the program, there */
	__u64 value; /* the 8 bytes at the address: after a write on x86-64, before it on arm64 */
	__u64 stack; /* 0 if it was lost */
	__u64 flags; /* enum kwatch_hit_flag */
	__u32 tgid;
	__u32 lap;
};

/* How a mapping was made: `function` of an EVENT_MAP, and MAPPING_MOVED of an EVENT_UNMAP. */
enum kwatch_mapping {
	MAPPING_BY_ALLOCATOR = 1, /* during a call of a probed allocator function */
	MAPPING_OF_FILE = 2,
	MAPPING_MOVED = 4, /* by mremap: EVENT_UNMAP of the old place, then EVENT_MAP of the new one */
};

/* Why a system call has no stack. */
enum kwatch_call_stack {
	CALL_STACK_LOST,
	CALL_STACK_OFF, /* the exec with which kwatch launches a command */
	CALL_STACK_UNSUPPORTED, /* a 32-bit caller */
};

/* What the words around a released block say: its `size`, if frees are checked. */
enum kwatch_chunk {
	CHUNK_READ = 1,
	CHUNK_IN_USE = 2,
	CHUNK_FREE = 4,
	CHUNK_INVALID = 8, /* no block can have these words, or this address */
	CHUNK_ON_STACK = 16, /* the address is in the stack of the process's first thread */
};

/*
 * Of EVENT_PAIRS, `tid` is the number of the blocks, `address` the size of the largest, `size` the sum
 * of their sizes, and `time_ns` when the oldest of them began. `stack` is 0 if it was not asked for.
 * Of EVENT_RELEASES, `address` is the stack of the releases, and `size` the sum of the lifetimes in ns.
 * EVENT_REUSED has only `address`, `tgid` and `time_ns`.
 *
 * If frees are checked, `allocator` is the number of the allocator's file (COOKIE_FILE), 0 if it is
 * not known; a release has its stack or, without the stacks of frees, the return address as `stack`.
 */
struct kwatch_heap {
	__u8 type;
	__u8 function; /* the probed function, an index into kwatch/wire/allocators.py; see kwatch_mapping */
	__u16 allocator;
	__u32 tid;
	__u64 time_ns;
	__u64 address;
	__u64 size;
	__u64 stack; /* the id of a kwatch_stack; 0: none */
	__u32 tgid;
	__u32 lap;
};

struct kwatch_control {
	__u8 type;
	__u8 reserved[3];
	__u64 time_ns;
	__u32 tgid;
} KWATCH_RECORD;

enum kwatch_fork_kind {
	FORK_TRACED,
	FORK_SHARES, /* traced, but it shares the parent's memory until its exec */
	FORK_UNTRACED, /* the first child of its parent that is not traced, with the parent's probes */
};

struct kwatch_fork {
	struct kwatch_control head; /* tgid: the parent */
	__u32 child;
	__u32 child_kind; /* enum kwatch_fork_kind */
	__u64 child_start_ns; /* CLOCK_BOOTTIME */
	__u64 mm_id; /* of the child: see kwatch_exec */
	__u8 comm[KWATCH_COMM_LEN];
} KWATCH_RECORD;

struct kwatch_exec {
	struct kwatch_control head;
	__u32 matched; /* with its new name, the process is a target */
	__u32 old_tid; /* of the calling thread, which leads the process now */
	__u64 start_ns; /* CLOCK_BOOTTIME */
	__u64 mm_id; /* identifies the address space; 0 if the process is no target */
	__u8 comm[KWATCH_COMM_LEN];
} KWATCH_RECORD;

struct kwatch_exit {
	struct kwatch_control head;
	__u32 status; /* the last thread's, as wait() returns it */
	__u32 ended_threads;
	__u64 start_ns; /* CLOCK_BOOTTIME */
	__u8 comm[KWATCH_COMM_LEN]; /* the first thread's */
} KWATCH_RECORD;

/* A thread that ends with its process or by an exec, of a process whose memory is held. */
struct kwatch_last_registers {
	struct kwatch_control head;
	__u32 tid;
	__u64 registers[KWATCH_REGISTERS]; /* in the order of kwatch/kernel/registers.py */
} KWATCH_RECORD;

/* Mapped code was unmapped or replaced. */
struct kwatch_code_unmapped {
	struct kwatch_control head;
	__u32 unmaps; /* the number of such events in this address space so far */
	__u64 start;
	__u64 size; /* 0: other code replaced it; its PERF_RECORD_MMAP2 came before */
} KWATCH_RECORD;

/* Whether the unwinder reached a mapping that it did not know, but that Python may know by now. */
enum kwatch_stack_copy {
	COPY_NOT_NEEDED,
	COPY_SENT, /* the preceding kwatch_stack_memory records belong to the same stack */
	COPY_SPARED, /* too many were sent already: frames from `exact` on are a guess */
};

/* A new stack, innermost frame first, in chunks. */
struct kwatch_stack {
	struct kwatch_control head;
	__u16 first; /* index of frames[0] in the whole stack */
	__u16 total; /* frames in the whole stack; frames[] is used up to it */
	__u16 exact; /* frames before the first step by frame pointer; total if there was none */
	__u8 end; /* enum kwatch_stack_end of unwind_rows.h, with its flag */
	__u8 copy; /* enum kwatch_stack_copy */
	__u64 stack;
	__u64 frames[KWATCH_STACK_CHUNK];
} KWATCH_RECORD;

/*
 * A piece of a thread's stack, sent because the unwinder reached an unknown mapping, with the
 * registers of that frame. Pieces follow each other upwards from sp. The stack's id includes a hash
 * of all of them, so two calls with the same id have the same callers.
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
	__u32 interrupted; /* a signal arrived at pc: it is not a return address */
} KWATCH_RECORD;

#endif
