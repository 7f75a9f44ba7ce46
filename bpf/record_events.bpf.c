/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a recording notes besides system calls: signals, and moves between control groups. */

#define SIGKILL 9

int call_signal(struct signal_context *ctx)
{
	struct slot *slot = find_slot(own_stack((void *)bpf_get_current_task()));
	struct open_call open = {};

	if (!slot || !slot->is_target || slot->flags & (TARGET_WAITING | TARGET_HEAP_ONLY))
		return 0;
	if (ctx->number == SIGKILL) /* also of each thread when its process ends; its end tells */
		return 0;
	if (!open_event(slot, &open, EVENT_SIGNAL, ctx->number))
		return 0;
	signal_info(ctx, open.record->arguments);
	close_call(&open, slot->tgid);
	return 0;
}

/* A process was moved to another cgroup, perhaps from outside. */
int cgroup_moved(void *ctx)
{
	struct slot_state *state = state_of_slots();

	if (state)
		__sync_fetch_and_add(&state->moves, 1);
	return 0;
}
