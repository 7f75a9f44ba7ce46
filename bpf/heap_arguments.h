/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The arguments of allocator functions, by signature. */
#ifndef KWATCH_HEAP_ARGUMENTS_H
#define KWATCH_HEAP_ARGUMENTS_H

#define ANY_REALLOC                                                               \
	(1 << SIGNATURE_REALLOC | 1 << SIGNATURE_REALLOCARRAY | 1 << SIGNATURE_REALLOCF |   \
	 1 << SIGNATURE_RESIZE | 1 << SIGNATURE_HEAP_REALLOC | 1 << SIGNATURE_HEAP_REALLOCF | \
	 1 << SIGNATURE_HEAP_REALLOCARRAY | 1 << SIGNATURE_METHOD_REALLOC)
#define FREES_ON_FAILURE (1 << SIGNATURE_REALLOCF | 1 << SIGNATURE_HEAP_REALLOCF)
#define ANY_FREE (1 << SIGNATURE_FREE | 1 << SIGNATURE_DELETE | 1 << SIGNATURE_HEAP_FREE)

static __always_inline bool is_one_of(u8 signature, u32 set)
{
	return set >> (signature & 31) & 1;
}

static __always_inline bool is_realloc(u8 signature)
{
	return is_one_of(signature, ANY_REALLOC);
}

/* The compiler would turn a check by division into a 128-bit product, which BPF does not have. */
static __always_inline u64 saturating_product(u64 a, u64 b)
{
	u64 large = a > b ? a : b, small = a > b ? b : a;
	u64 low = small * (u32)large, high = small * (large >> 32);

	if (small >> 32 || high >> 32 || (high + (low >> 32)) >> 32)
		return ~0ULL;
	return a * b;
}

struct arguments {
	u64 value[MAX_ARGUMENTS];
};

/* The code before the probe may have moved the argument to another register. */
static __always_inline u64 find_argument(struct pt_regs *ctx, u32 moved, u32 number, u64 usual)
{
	u32 word = moved >> number * COOKIE_MOVED_BITS & ((1 << COOKIE_MOVED_BITS) - 1);

	if (word)
		bpf_probe_read_kernel(&usual, sizeof(usual), (void *)ctx + (word - 1) * sizeof(u64));
	return usual;
}

static __always_inline struct arguments arguments_of(struct pt_regs *ctx, u64 cookie)
{
	struct arguments found = { { ARG0(ctx), ARG1(ctx), ARG2(ctx), ARG3(ctx) } };
	u32 moved = COOKIE_MOVED(cookie);

	if (moved) {
		found.value[0] = find_argument(ctx, moved, 0, found.value[0]);
		found.value[1] = find_argument(ctx, moved, 1, found.value[1]);
		found.value[2] = find_argument(ctx, moved, 2, found.value[2]);
		found.value[3] = find_argument(ctx, moved, 3, found.value[3]);
	}
	return found;
}

/* Saves the arguments that matter at the return. */
static __always_inline void take_arguments(struct arguments *from, struct thread *thread,
					   u8 signature)
{
	u64 *value = from->value, count = 1;

	thread->pointer = 0;
	switch (signature) {
	case SIGNATURE_MALLOC:
	case SIGNATURE_NEW:
		thread->size = value[0];
		return;
	case SIGNATURE_REALLOC:
	case SIGNATURE_REALLOCF:
	case SIGNATURE_RESIZE:
		thread->pointer = value[0];
		thread->size = value[1];
		return;
	case SIGNATURE_ALIGNED:
		thread->size = value[1];
		return;
	case SIGNATURE_POSIX_MEMALIGN:
		thread->pointer = value[0];
		thread->size = value[2];
		return;
	case SIGNATURE_HEAP_REALLOC:
	case SIGNATURE_HEAP_REALLOCF:
		thread->pointer = value[1];
		thread->size = value[2];
		return;
	case SIGNATURE_HEAP_ALIGNED:
		thread->size = value[2];
		return;
	case SIGNATURE_METHOD_REALLOC:
		thread->pointer = value[1];
		thread->size = value[3];
		return;
	case SIGNATURE_CALLOC:
		count = value[0];
		thread->size = value[1];
		break;
	case SIGNATURE_REALLOCARRAY:
		thread->pointer = value[0];
		count = value[1];
		thread->size = value[2];
		break;
	case SIGNATURE_HEAP_CALLOC:
		count = value[1];
		thread->size = value[2];
		break;
	case SIGNATURE_HEAP_REALLOCARRAY:
		thread->pointer = value[1];
		count = value[2];
		thread->size = value[3];
		break;
	}
	thread->size = saturating_product(count, thread->size);
}

#endif
