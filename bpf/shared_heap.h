/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Processes that share the memory of a target. */
#ifndef KWATCH_SHARED_HEAP_H
#define KWATCH_SHARED_HEAP_H

/*
 * Counts a process that has used the heap of `owner` if no program ran there: the kernel may run the
 * programs of a link only in the process of the link, although the breakpoints are in all that share
 * the memory (Linux 6.12, commit 900f362e2062). A thread that was at a breakpoint has a utask.
 */
static __always_inline void note_unseen(struct slot *slot)
{
	struct target *target;

	if (!TASK_UTASK || slot->flags & TARGET_UNSEEN || slot->thread.mm_id ||
	    !read_u64((void *)slot->task, TASK_UTASK))
		return;
	slot->flags |= TARGET_UNSEEN;
	target = find_target(slot->tgid);
	if (!target || target->flags & TARGET_UNSEEN)
		return;
	target->flags |= TARGET_UNSEEN;
	count_loss(slot->owner, LOSS_SHARED_HEAP_UNSEEN);
}

#endif
