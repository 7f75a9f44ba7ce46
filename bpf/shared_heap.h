/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Processes that share the memory of a target. Needs the threads of heap.bpf.c. */
#ifndef KWATCH_SHARED_HEAP_H
#define KWATCH_SHARED_HEAP_H

/*
 * Counts a process that has used the heap of `owner` if no program ran there: the kernel may run the
 * programs of a link only in the process of the link, although the breakpoints are in all that share
 * the memory (Linux 6.12, commit 900f362e2062). A thread that was at a breakpoint has a utask.
 */
static __always_inline void note_unseen(struct target *target, u32 tid, u32 tgid)
{
	void *task = (void *)bpf_get_current_task();
	struct thread *thread = threads.lookup(&tid);

	if (!TASK_UTASK || target->flags & TARGET_UNSEEN || !read_u64(task, TASK_UTASK))
		return;
	if (thread && thread->process == tgid)
		return;
	target->flags |= TARGET_UNSEEN;
	count_loss(target->owner, LOSS_SHARED_HEAP_UNSEEN);
}

#endif
