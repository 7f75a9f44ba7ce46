/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Where young_blocks.h is not possible: each allocation and each free has an event. */
#ifndef KWATCH_NO_YOUNG_BLOCKS_H
#define KWATCH_NO_YOUNG_BLOCKS_H

static __always_inline u64 forks_of(u32 tgid)
{
	return 0;
}

static __always_inline void note_fork(u32 tgid)
{
}

static __always_inline bool keep_young(struct thread *thread, struct kwatch_heap *event, u64 forks)
{
	return false;
}

static __always_inline bool end_young(struct thread *thread, u64 address, u64 stack)
{
	return false;
}

static __always_inline void orphan_young(struct thread *thread, u64 address)
{
}

#endif
