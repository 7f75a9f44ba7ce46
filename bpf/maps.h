/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What Python and the BPF programs share besides the rings: values of maps, and attach cookies.
 * kwatch/wire/maps.py mirrors this file; a test compiles both and compares them.
 */
#ifndef KWATCH_MAPS_H
#define KWATCH_MAPS_H

#include "record_maps.h"

enum target_flag {
	TARGET_WAITING = 1, /* a launched command that has not made its exec yet */
	TARGET_INHERIT = 2, /* its children get the same flags */
	TARGET_BY_COMM = 4, /* a target only while its name matches */
	TARGET_OWN = 8, /* a process of kwatch's own, which is never traced */
	TARGET_HEAP_ONLY = 16, /* has an owner; its own system calls are not traced */
	TARGET_UNSEEN = 32, /* its use of the owner's heap was not seen, and was counted */
	TARGET_FORKED = 64, /* has a child that is not traced, which was reported */
};

/* A traced process. The mm_id, a part of each stack's hash, identifies its address space. */
struct target {
	__u64 mm_id;
	__u32 flags;
	__u32 unmaps; /* the number of times that code was unmapped or replaced */
	__u32 owner; /* the process whose memory it shares, and so its heap; 0: it has its own */
	__u32 ended_threads;
};

/* A process with watchpoints. Another program in the same process has another mm_id. */
struct watched {
	__u64 mm_id;
	__u32 reads_value; /* not where reads are watched: it would be one */
	__u32 stops; /* the process, at each hit */
};

struct loss_key {
	__u32 tgid;
	__u32 cause;
};

/* What to do with a system call, by ABI and number. */
enum call_flag {
	CALL_TRACE = 1,
	CALL_MEMORY = 2, /* mmap, munmap, mremap, brk, prctl: the upper bits have the role */
	CALL_NO_RETURN = 4, /* exit, exit_group */
	CALL_SPECIAL = 8, /* the upper bits have the role */
};

#define CALL_ROLE_SHIFT 4
#define CALL_NUMBERS 1024

enum memory_role {
	MEMORY_MMAP, /* and mmap2, whose offset is in pages */
	MEMORY_OLD_MMAP, /* i386: a pointer to mmap's arguments */
	MEMORY_MUNMAP,
	MEMORY_MREMAP,
	MEMORY_BRK,
	MEMORY_PRCTL, /* may switch on Syscall User Dispatch */
};

/* The roles of CALL_SPECIAL. */
enum special_role {
	SPECIAL_SIGRETURN, /* its result is a register of the interrupted code */
	SPECIAL_RESTART, /* restart_syscall */
	SPECIAL_KILL, /* may end its own thread */
	SPECIAL_NEVER_FAILS, /* 32-bit callers: a result that looks like an error is none */
	SPECIAL_SETS_USER, /* may change the thread's user */
	SPECIAL_SOCKETCALL, /* i386: the first argument says which call it is */
	SPECIAL_IPC,
};

/*
 * Numbers for the calls inside i386's socketcall and ipc: these and the first argument. No kernel has
 * such numbers.
 */
#define SOCKETCALL_NUMBERS 960
#define IPC_NUMBERS 984

enum call_state {
	CALL_NONE, /* the thread is in no call that is traced */
	CALL_ENTERED,
	CALL_BEGAN_EARLIER, /* before the attach; or in none, until the thread's next call */
	CALL_BORN, /* the thread is new: the return of its fork is next */
	CALL_UNSEEN, /* the thread has entered none since its slot was made */
};

/* A thread's last stack and its address space; the frames have been sent. */
struct last_stack {
	__u64 id;
	__u64 space;
};

/* A thread's system call in progress. */
struct call_in_progress {
	__u64 time_ns;
	__u64 arguments[4];
	__u32 tgid;
	__u32 tid;
	__u16 nr;
	__u8 abi;
	__u8 flags;
	__u8 state; /* enum call_state */
	__u8 waiting; /* entered by a launched command before its exec */
	__u8 interrupted; /* the thread has an interrupted_call */
	__u8 mapping; /* see kwatch_mapping */
	__u32 records; /* sent by the thread: see write_record */
	__u32 in_window; /* calls that were sent singly: see call_sums.h */
#ifdef RECORD
	struct recorded_call recorded;
#endif
#ifdef STACKS
	__u64 stack; /* see kwatch_stacked_syscall */
	struct last_stack last;
	__u8 scratch; /* of the unwinding under way */
	__u8 reserved[7];
#endif
};

#ifdef HEAP
/* A freed block; see is_repeated. */
struct release {
	__u64 pointer; /* 0 after the next allocation */
	__u64 sp;
	__u64 caller; /* the return address */
	__u64 place; /* the probe that saw it first */
	__u64 passed_place; /* the probe that saw it last, if a function passed it on */
};

/* A thread's allocator call in progress. */
struct thread {
	__u64 mm_id; /* 0: the thread has made no call since its exec */
	__u64 sp; /* of the pending outermost call at its entry; 0: none */
	__u64 size;
	__u64 pointer; /* the pointer argument; 0 if there is none */
	__u64 caller; /* of a pending operator new: its return address; see release_stacks.h */
	__u64 nested_ns; /* when the first nested call started; 0: none did */
	struct last_stack last;
	struct release released; /* the last one */
	__u32 tgid; /* whose heap it is */
	__u32 tid;
	__u32 records; /* sent by the thread: see write_record */
	__u32 nested; /* calls in the pending one */
	__u8 function;
	__u8 signature;
	__u8 scratch; /* of the unwinding in progress */
	__u8 owes_event; /* see begin_block */
#ifndef HEAP_COOKIE
	__u64 place; /* of the pending call's probe */
#endif
#ifdef CHECKS
	__u64 chunk; /* of the block that it releases: see chunk_words.h */
	__u64 return_address; /* of the function that releases it */
	__u32 allocator; /* of the call */
	__u32 reserved;
#endif
};
#endif

/* Of one CPU's ring: see mapped_rings.h. `tail` is in a cache line of its own. */
struct ring_position {
	__u64 head;
	__u64 mask; /* the number of records, a power of two, less one */
	__u64 shift; /* its logarithm */
	__u64 wake; /* a power of two */
	__u64 reserved[4];
	__u64 tail;
	__u64 reserved2[7];
};

/* What is known of a thread: see slots.h. */
struct slot {
	__u64 stack; /* the key; 0: free */
	__u64 task; /* the address of its task_struct */
	__u64 generation; /* of the targets when this was decided */
	__u32 tid;
	__u32 tgid;
	__u32 flags; /* of the target */
	__u32 owner; /* of the target */
	__u8 is_target;
	__u8 is_spilled;
	__u16 window; /* of call.in_window */
	__u32 serial; /* of the target: see call_sums.h */
	struct call_in_progress call;
#ifdef HEAP
	struct thread thread;
#endif
#ifdef RECORD
	struct thread_user user; /* taken when this was decided */
	struct capture capture;
	struct kept_pieces kept; /* the last member: Python finds it there */
#endif
};

/*
 * The table of young_blocks.h: entries of blocks, then those of sums. The reader takes them out in
 * groups, of those that are marked.
 */
#define YOUNG_BLOCKS_ROOM 16384
#define YOUNG_SUMS_ROOM 2048
#define YOUNG_ENTRIES (YOUNG_BLOCKS_ROOM + YOUNG_SUMS_ROOM)
#define YOUNG_GROUP 512
#define YOUNG_GROUPS (YOUNG_ENTRIES / YOUNG_GROUP)
#define YOUNG_FORKS 1024 /* a power of two */

struct young_state {
	__u64 by_stack; /* sums are kept for each stack, and not only for each process */
	__u64 is_used[YOUNG_GROUPS];
};

struct slot_state {
	__u64 address; /* of this structure in the kernel */
	__u64 spilled; /* how many slots are behind the others */
	__u32 generation; /* Python raises it when it has changed the targets */
	__u32 moves; /* how often any process was moved to another cgroup; read as its upper half */
};

/* What is known of a thread that has no slot yet. */
struct noted_thread {
	__u32 tgid;
	__u32 state; /* enum call_state */
};

/*
 * A call that a signal has interrupted. Its thread ends in it, makes it again at the same place, or
 * gets the result.
 */
struct interrupted_call {
	__u64 sp;
	__u64 pc;
	__s64 result;
	__u32 in_handler; /* the thread has made other calls since */
	__u32 reserved;
	struct call_in_progress call; /* time_ns: how long it has taken so far */
};

/* A version of a mapped file: a write changes the key. */
struct file_key {
	__u64 inode;
	__u64 size;
	__u64 changed_s; /* mtime */
	__u32 changed_ns;
	__u32 device; /* as in the kernel: 12 bits major, 20 bits minor */
};

/* The unwind table of a file, for all of its mappings: see unwind_tables.h. */
struct file_table {
	__u64 offset; /* of the code in the file */
	__u64 size; /* of the code */
	__u64 shift; /* bias = start of the mapping - its offset + shift */
	__u32 blocks;
	__u32 block_count;
};

/*
 * Rows of unwind tables are numbered from 0 over all shards, which are created on demand. A block
 * takes one row too: its `pc` and `rule` are the numbers of the first and the last row to search.
 */
#define SHARD_SHIFT 16
#define SHARD_ROWS (1 << SHARD_SHIFT)

#define CODE_STEPS 12 /* halvings that find one of a process's mappings */

/* A mapping of code that has an unwind table. */
struct code_mapping {
	__u64 start;
	__u64 end;
	__u64 bias; /* see unwind_rows.h */
	__u32 blocks; /* the row that is block 0 */
	__u32 block_count;
};

/*
 * A process's mappings with tables: a sorted range of code_mappings. A range is never changed in
 * place; its replacement has another generation.
 */
struct space {
	__u64 mm_id; /* valid while it is the target's */
	__u64 generation;
	__u64 epoch; /* counts the times that code was replaced: addresses have new meanings */
	__u64 unmaps; /* the target's count when this was made; a higher one makes this invalid */
	__u64 code; /* first in the lower half, count in the upper: read in one load */
};

#define MAX_CAPTURE 0x20000 /* bytes of one capture */

#define MAX_PATTERNS 8

/*
 * A glob as a bit-parallel automaton: bit i of the state is set if the first i elements of the
 * pattern match the characters so far. kwatch/targets/globs.py builds it.
 */
struct pattern {
	__u32 loops; /* states that a '*' keeps */
	__u32 final;
	__u32 accepts[256]; /* by character: the states that it advances */
};

/* How an allocator function takes its size and returns its result. A heap may come before the rest. */
enum alloc_signature {
	SIGNATURE_MALLOC, /* f(size) */
	SIGNATURE_CALLOC, /* f(n, size) */
	SIGNATURE_REALLOC, /* f(pointer, size) */
	SIGNATURE_REALLOCARRAY, /* f(pointer, n, size) */
	SIGNATURE_ALIGNED, /* f(alignment, size), f(heap, size) */
	SIGNATURE_POSIX_MEMALIGN, /* f(&pointer, alignment, size), 0 on success */
	SIGNATURE_FREE, /* f(pointer, ...) */
	SIGNATURE_DELETE, /* C++ operator delete: like free, which it may call */
	SIGNATURE_NEW, /* C++ operator new: like malloc, but it may throw: see heap_exit */
	SIGNATURE_REALLOCF, /* f(pointer, size), frees the block on failure */
	SIGNATURE_RESIZE, /* f(pointer, size), in place; returns the size that the block then has */
	SIGNATURE_HEAP_CALLOC, /* f(heap, n, size) */
	SIGNATURE_HEAP_REALLOC, /* f(heap, pointer, size) */
	SIGNATURE_HEAP_REALLOCF, /* f(heap, pointer, size), frees the block on failure */
	SIGNATURE_HEAP_REALLOCARRAY, /* f(heap, pointer, n, size) */
	SIGNATURE_HEAP_ALIGNED, /* f(heap, alignment, size) */
	SIGNATURE_HEAP_FREE, /* f(heap, pointer) */
	SIGNATURE_METHOD_REALLOC, /* f(this, pointer, old size, size) */
};

/*
 * The attach cookie of a probe: the function, its signature, whether it passes a release on to no other
 * function, where its arguments are, the file, and how far the stack has grown.
 * An argument that is not in its usual register has the number of a word in struct pt_regs, plus 1.
 */
#define COOKIE_SIGNATURE_SHIFT 8
#define COOKIE_PASSES_NOTHING (1 << 15)
#define COOKIE_MOVED_SHIFT 16
#define COOKIE_MOVED_BITS 6
#define COOKIE_FILE_SHIFT 40
#define COOKIE_PUSHED_SHIFT 56
#define MAX_ARGUMENTS 4
#define COOKIE_FUNCTION(cookie) ((__u8)(cookie))
#define COOKIE_SIGNATURE(cookie) ((__u8)((cookie) >> COOKIE_SIGNATURE_SHIFT) & 0x7f)
#define COOKIE_MOVED(cookie) ((__u32)((cookie) >> COOKIE_MOVED_SHIFT) & 0xffffff)
#define COOKIE_FILE(cookie) ((__u32)((cookie) >> COOKIE_FILE_SHIFT) & 0xffff)
#define COOKIE_PUSHED(cookie) ((cookie) >> COOKIE_PUSHED_SHIFT)

#define SLOTS (2 << SLOT_BITS) /* of threads */
#define SPILLED_SLOTS 16384 /* behind these, of further threads: see slots.h */
#define SLOT_BITS 14 /* of the number of pairs */
#define MAX_PROBED_FILES 16384
#define RELEASE_SWITCHES 1024 /* a power of two: see release_stacks.h */
#define MAX_WATCHED 64 /* processes with watchpoints */
#define MAX_HELD 64 /* processes whose memory is held */
#define MAX_LAST_REGISTERS 1024 /* threads of a process; the records must not fill the ring */

#endif
