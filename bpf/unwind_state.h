/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * An unwinding under way: its memory, the frame that it has come to, what of the stack it has read
 * and depends on.
 */
#ifndef KWATCH_UNWIND_STATE_H
#define KWATCH_UNWIND_STATE_H

#include "unwind_rows.h"
#include "unwind_tables.h"

#define WINDOW_WORDS 1024 /* of stack, read at once */
#define FIRST_WINDOW 512
#define SECOND_WINDOW 64
#define SCRATCHES 16 /* for each CPU: threads of which each was preempted in an unwinding */
#define MAX_PAIRS 64
#define MAX_LOOKUPS 8 /* a program each, of the chain */
#define MAX_STACK_BYTES (64ULL << 20)

/*
 * A stack that was unwound, and the memory that this depended on: the words `slots` (counted from
 * sp) held `values`. If they still do, the same unwinding would give the same frames: each step
 * depends on pc and sp, which the words before determine, and on fp where a rule uses it, which is
 * then among them or is `fp`, the register.
 */
struct known_stack {
	u64 stack;
	u64 fp;
	u64 check; /* sum over the pairs and the stack: an entry may be evicted and overwritten while it is read */
	u32 fp_used;
	u16 count;
	u16 reach; /* the farthest slot */
	u64 values[MAX_PAIRS];
	u16 slots[MAX_PAIRS];
};

/* Where an unwinding begins. Equal keys need not have equal stacks: see struct known_stack. */
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
	u32 lookups; /* for code that Python has not told of: see mapped_file.h */
	u64 wanted; /* its address, while it is to be looked for */
	struct code_mapping found[MAX_LOOKUPS];
#ifdef HEAP
	struct kwatch_heap allocation; /* what the stack is for, if it is that */
#endif
	/* the frame that is left: its pc, sp and frame pointer */
	u64 pc;
	u64 sp;
	u64 fp;
	u64 fp_slot; /* where fp was read; 0: it is still the register */
	u64 link; /* x30 (arm64), while it is known: where a call or a signal has interrupted */
	u64 base; /* sp of the innermost frame */
	u64 hash;
	u64 partial; /* the id of the stack up to an unknown mapping */
	u32 count; /* frames */
	u32 window; /* words read */
	u8 type; /* of the record that the stack comes in */
	u8 end; /* enum kwatch_stack_end */
	u8 reason; /* why the frame pointer was needed last */
	u8 interrupted; /* pc is no return address but where a signal came */
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
	struct kwatch_stack_memory memory; /* the head of what follows, when it is sent */
	u64 words[WINDOW_WORDS + 1];
	u64 node[32]; /* of the kernel's map of the process */
};

BPF_PERCPU_ARRAY(unwindings, struct unwinding, SCRATCHES);

/*
 * Who reads `begun` one above the `ended` that was read first is alone, and stays so: whoever comes
 * later counts itself too and finds two. All are on one CPU, so no other ordering is needed, and
 * an addition that returns nothing will do; exchanges came with Linux 5.12.
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

/* Memory for one unwinding, and its number; NULL if that many are under way on this CPU. */
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

/* What was claimed by the program that has tail-called this one. */
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

/* Reads so much stack at once that most frames need no read of their own. */
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
		/* The compiler must not know the bound, or it hides it from the verifier. */
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

/* Goes on to the caller, whose fp is set already. */
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
