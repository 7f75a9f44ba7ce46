/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The events of the heap ring, and which blocks have none. */
#ifndef KWATCH_HEAP_EVENTS_H
#define KWATCH_HEAP_EVENTS_H

static __always_inline void stamp(struct kwatch_heap *event, u32 tgid, u32 tid)
{
	event->time_ns = bpf_ktime_get_ns();
	event->tgid = tgid;
	event->tid = tid;
}

/* `records`: the writer's count of records. */
static __always_inline void write_stamped(struct kwatch_heap *event, u32 *records)
{
	if (!write_heap(event, records))
		count_loss(event->tgid, LOSS_HEAP_RING_FULL);
}

static __always_inline void send_heap(struct kwatch_heap *event, u32 tgid, u32 tid, u32 *records)
{
	stamp(event, tgid, tid);
	write_stamped(event, records);
}

static __always_inline void send_thread(struct kwatch_heap *event, struct thread *thread)
{
	thread->owes_event = 0;
	send_heap(event, thread->tgid, thread->tid, &thread->records);
}

#ifdef YOUNG_BLOCKS
#include "young_blocks.h"
#else
#include "no_young_blocks.h"
#endif

/*
 * A block begins. After a realloc has released one, the next event of the thread tells the reader that
 * the call is over, so it must come.
 */
static __always_inline void begin_block(struct kwatch_heap *event, struct thread *thread)
{
	u64 forks = forks_of(thread->tgid);

	stamp(event, thread->tgid, thread->tid);
	if (keep_young(thread, event, forks))
		return;
	thread->owes_event = 0;
	write_stamped(event, &thread->records);
}

/* The event of a release, but for its stack. */
static __always_inline struct kwatch_heap release_event(struct thread *thread, u8 type, u64 address,
							u8 function)
{
	struct kwatch_heap event = { .type = type, .function = function, .address = address };

#ifdef CHECKS
	event.allocator = thread->allocator;
	event.size = thread->chunk;
#ifndef FREE_STACKS
	event.stack = thread->return_address;
#endif
#endif
	return event;
}

static __always_inline void send_release(struct thread *thread, u8 type, u64 address, u8 function)
{
	struct kwatch_heap event = release_event(thread, type, address, function);

	if (address)
		send_thread(&event, thread);
}

/* A block is released, by a call whose stack may be known. */
static __always_inline void end_block(struct kwatch_heap *event, struct thread *thread)
{
	if (!end_young(thread, event->address, event->stack))
		send_thread(event, thread);
}

#endif
