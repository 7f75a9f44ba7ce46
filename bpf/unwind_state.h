/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The state of an unwinding: its memory, the frame that it has reached, and the words of the stack
 * that it has read and depends on.
 */
#ifndef KWATCH_UNWIND_STATE_H
#define KWATCH_UNWIND_STATE_H

#include "unwind_rows.h"
#include "unwind_tables.h"

#define WINDOW_WORDS 1024 /* of the stack; the most that are read at once */
#define FIRST_WINDOW 512
#define SECOND_WINDOW 64
#define SCRATCHES 16 /* per CPU: so many threads can be preempted while they unwind */
#define MAX_PAIRS 64
#define MAX_LOOKUPS 8 /* each takes one program of the chain */
#define MAX_STACK_BYTES (64ULL << 20)

/*
 * A stack that was unwound, and the memory that it depended on: the words at `slots` (counted from
 * sp) had `values`. If they still have them, the frames are the same: each step depends on pc and sp,
 * which earlier words determine, and on fp where a rule uses it, which is one of these words or the
 * register `fp`.
 */
struct known_stack {
	u64 stack;
	u64 fp;
	u64 check; /* checksum: an entry may be evicted and overwritten while it is read */
	u32 fp_used;
	u16 count;
	u16 reach; /* the farthest slot */
	u64 values[MAX_PAIRS];
	u16 slots[MAX_PAIRS];
};

/* Where an unwinding starts. Stacks with equal keys may differ: see struct known_stack. */
struct known_key {
	u64 sp;
	u64 pc;
	u64 link;
	u64 space;
	u64 branch; /* of stacks that begin alike: see find_known */
};

struct unwinding {
	u64 begun; /* see claim_scratch */
	u64 ended;
	u64 mm_id; /* of the target */
	u32 tgid;
	u32 hint; /* the last mapping found */
	u32 lookups; /* of code that Python has not published: see mapped_file.h */
	u64 wanted; /* an address to look up; 0: none */
	struct code_mapping found[MAX_LOOKUPS];
#ifdef HEAP
	struct kwatch_heap allocation; /* the event that gets the stack, unless it is a system call */
#endif
	/* the frame that was reached */
	u64 pc;
	u64 sp;
	u64 fp;
	u64 fp_slot; /* where fp was read; 0: it is the register */
	u64 link; /* x30 (arm64), if known: in the innermost frame and one that a signal interrupted */
	u64 base; /* sp of the innermost frame */
	u64 hash;
	u64 partial; /* the id of the stack up to an unknown mapping */
	u32 count; /* frames */
	u32 window; /* words read */
	u8 type; /* of the record that carries the stack */
	u8 end; /* enum kwatch_stack_end */
	u8 reason; /* why the frame pointer was needed last */
	u8 interrupted; /* a signal arrived at pc: it is not a return address */
	u8 by_frame_pointer;
	u8 uncacheable; /* not to be kept as a known stack */
	u8 done;
	u8 fp_step_interrupted;
	u8 fp_step_reason;
	u16 exact; /* frames before the first step by frame pointer */
	u64 fp_step_pc; /* at that step */
	u64 fp_step_sp;
	u64 fp_step_fp;
	u64 fp_step_link;
	struct known_key key;
	struct known_stack known;
	u64 frames[KWATCH_MAX_FRAMES];
	struct kwatch_stack_memory memory; /* the header of `words`, when they are sent */
	u64 words[WINDOW_WORDS + 1];
	u64 node[32]; /* of the maple tree of VMAs */
};

BPF_PERCPU_ARRAY(unwindings, struct unwinding, SCRATCHES);

/*
 * A program that reads `begun` as one more than the `ended` that it read first has the memory alone:
 * later ones also increment `begun` and see a higher number. All run on one CPU, so no memory ordering
 * is needed, and an atomic addition without result is enough; exchanges came with Linux 5.12.
 */
static __always_inline bool claim(struct unwinding *u)
{
	u64 ended = *(volatile u64 *)&u->ended;

	__sync_fetch_and_add(&u->begun, 1);
	if (*(volatile u64 *)&u->begun == ended + 1)
		return true;
	__sync_fetch_and_add(&u->ended, 1);
	return false;
}

static __always_inline void release(struct unwinding *u)
{
	__sync_fetch_and_add(&u->ended, 1);
}

/* Memory for one unwinding, and its number; NULL if all of it is in use on this CPU. */
static __always_inline struct unwinding *claim_scratch(u32 tgid, u8 *number)
{
	for (int i = 0; i < SCRATCHES; i++) {
		int index = i;
		struct unwinding *u = unwindings.lookup(&index);

		if (u && claim(u)) {
			*number = i;
			u->tgid = tgid;
			return u;
		}
	}
	count_loss(tgid, LOSS_STACK_SCRATCH_BUSY);
	return NULL;
}

/* The memory that the program that tail-called this one has claimed. */
static __always_inline struct unwinding *claimed_scratch(u8 number)
{
	int index = number;

	return unwindings.lookup(&index);
}

static __always_inline u64 mix(u64 hash, u64 value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
	return hash ^ (hash >> 29);
}

static __always_inline void begin_unwinding(struct unwinding *u, struct registers *from)
{
	u->pc = from->pc;
	u->sp = from->sp;
	u->fp = from->fp;
	u->fp_slot = 0;
	u->link = from->link;
	u->base = from->sp;
	u->count = 1;
	u->window = 0;
	u->end = STACK_TOO_DEEP;
	u->interrupted = 0;
	u->by_frame_pointer = 0;
	u->fp_step_reason = STACK_COMPLETE;
	u->uncacheable = 0;
	u->done = 0;
	u->exact = 0;
	u->lookups = 0;
	u->wanted = 0;
	u->known.fp = u->fp;
	u->known.fp_used = 0;
	u->known.count = 0;
	u->known.check = 0;
	u->known.reach = 0;
	u->frames[0] = from->pc;
}

/* Reads enough of the stack at once that most frames need no read of their own. */
static __always_inline void read_window(struct unwinding *u)
{
	if (!read_user(u->words, FIRST_WINDOW * 8, (void *)u->base))
		u->window = FIRST_WINDOW;
	else if (!read_user(u->words, SECOND_WINDOW * 8, (void *)u->base))
		u->window = SECOND_WINDOW;
}

struct two_words {
	u64 first;
	u64 second;
};

static __always_inline bool read_two(struct unwinding *u, u64 address, struct two_words *words)
{
	u64 index = (address - u->base) >> 3;

	if (!(address & 7) && address >= u->base && index + 1 < u->window) {
		/* If the compiler knew the bound, it would drop the check that the verifier needs. */
		asm volatile("" : "+r"(index));
		index &= WINDOW_WORDS - 1;
		words->first = u->words[index];
		words->second = u->words[index + 1];
		return true;
	}
	return !read_user(words, sizeof(*words), (void *)address);
}

static __always_inline bool read_word(struct unwinding *u, u64 address, u64 *word)
{
	u64 index = (address - u->base) >> 3;

	if (!(address & 7) && address >= u->base && index < u->window) {
		asm volatile("" : "+r"(index));
		index &= WINDOW_WORDS - 1;
		*word = u->words[index];
		return true;
	}
	return !read_user(word, sizeof(*word), (void *)address);
}

static __always_inline u64 add_pair(u64 sum, u64 slot, u64 value)
{
	return ((sum << 7 | sum >> 57) ^ value) + slot;
}

/* The unwinding depends on this word of the stack. */
static __always_inline void record_dependency(struct unwinding *u, u64 address, u64 value)
{
	u64 slot = (address - u->base) >> 3;
	u32 pair = u->known.count;

	if (address & 7 || address < u->base || slot >= WINDOW_WORDS || pair >= MAX_PAIRS) {
		u->uncacheable = 1;
		return;
	}
	asm volatile("" : "+r"(pair));
	pair &= MAX_PAIRS - 1;
	u->known.slots[pair] = slot;
	u->known.values[pair] = value;
	u->known.count = pair + 1;
	u->known.check = add_pair(u->known.check, slot, value);
	if (slot > u->known.reach)
		u->known.reach = slot;
}

/* The unwinding depends on the frame pointer. */
static __always_inline void record_fp_dependency(struct unwinding *u)
{
	if (u->fp_slot)
		record_dependency(u, u->fp_slot, u->fp);
	else
		u->known.fp_used = 1;
}

static __always_inline bool stop(struct unwinding *u, u8 end)
{
	u->end = end;
	u->done = 1;
	return false;
}

/* Goes to the caller's frame, whose fp is already set. */
static __always_inline bool enter_caller(struct unwinding *u, u64 pc, u64 sp)
{
	u32 count = u->count;

	if (!pc)
		return stop(u, STACK_COMPLETE);
	if (count >= KWATCH_MAX_FRAMES)
		return stop(u, STACK_TOO_DEEP);
	u->pc = pc;
	u->sp = sp;
	u->link = 0;
	u->interrupted = 0;
	asm volatile("" : "+r"(count));
	count &= KWATCH_MAX_FRAMES - 1;
	u->frames[count] = pc;
	u->count = count + 1;
	u->hash = mix(u->hash, pc);
	return true;
}

#endif
