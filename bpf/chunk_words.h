/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the words around a block say at its release, for `kwatch check`. They are those of glibc's
 * malloc/malloc.c (struct malloc_chunk); Python ignores them for other allocators. A block in a
 * thread's cache or a fast bin still looks like one that is in use.
 */
#ifndef KWATCH_CHUNK_WORDS_H
#define KWATCH_CHUNK_WORDS_H

#define CHUNK_PREVIOUS_IN_USE 1
#define CHUNK_IS_MAPPED 2
#define CHUNK_SIZE_BITS 7ULL
#define MIN_CHUNK 32
#define MAX_CHUNK (1ULL << 47)
#define CHUNK_ALIGNMENT 16
#define SMALLEST_PAGE 4096
#define MAX_MAIN_STACK (1ULL << 27) /* mmap() leaves at least this gap below the first stack */

static __always_inline u64 look_at_mapped_chunk(u64 pointer, u64 before, u64 size)
{
	u64 start = pointer - CHUNK_ALIGNMENT - before, length = before + size;

	return CHUNK_READ |
	       ((start | length) & (SMALLEST_PAGE - 1) ? CHUNK_INVALID : CHUNK_IN_USE);
}

/* The flags of enum kwatch_chunk. */
static __always_inline u64 look_at_chunk(u64 pointer)
{
	u64 words[2] = {}, next = 0, size;

	if (pointer & (CHUNK_ALIGNMENT - 1))
		return CHUNK_READ | CHUNK_INVALID;
	if (read_user(words, sizeof(words), (void *)(pointer - sizeof(words))))
		return 0;
	size = words[1] & ~CHUNK_SIZE_BITS;
	if (size < MIN_CHUNK || size >= MAX_CHUNK || size & (CHUNK_ALIGNMENT - 1))
		return CHUNK_READ | CHUNK_INVALID;
	if (words[1] & CHUNK_IS_MAPPED)
		return look_at_mapped_chunk(pointer, words[0], size);
	if (read_user(&next, sizeof(next), (void *)(pointer - sizeof(next) + size)))
		return CHUNK_READ;
	return CHUNK_READ | (next & CHUNK_PREVIOUS_IN_USE ? CHUNK_IN_USE : CHUNK_FREE);
}

/* Whether an address is in the first thread's stack, on which the current function runs. */
static __always_inline bool is_on_main_stack(u64 task, u64 sp, u64 address)
{
	u64 mm, top;

	if (address < sp || address - sp >= MAX_MAIN_STACK)
		return false;
	mm = read_u64((void *)task, TASK_MM);
	top = read_u64((void *)mm, MM_START_STACK);
	return address < top && top - sp < MAX_MAIN_STACK;
}

static __always_inline u64 look_at_block(u64 sp, u64 pointer)
{
	u64 found = look_at_chunk(pointer);

	return is_on_main_stack(bpf_get_current_task(), sp, pointer) ? found | CHUNK_ON_STACK : found;
}

#endif
