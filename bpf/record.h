/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Records of single calls (RECORD): registers and times, and what capture.bpf.c reads of the program's
 * memory. A call whose row has nothing to read costs one record at its end.
 */
#ifndef KWATCH_RECORD_H
#define KWATCH_RECORD_H

#include "call_registers.h"
#include "capture_area.h"
#include "capture_cells.h"
#include "capture_kept.h"
#include "record_filter.h"

#define IPC_64 0x100 /* include/uapi/linux/ipc.h */

BPF_ARRAY(capture_rows, struct capture_row, 5 * CALL_NUMBERS);
BPF_HASH(capture_variants, struct capture_key, struct capture_row, 8192);
BPF_PROG_ARRAY(capture_programs, 1);
BPF_PROG_ARRAY(nested_programs, 1);

static __always_inline struct capture_row *base_row(struct call_in_progress *call)
{
	u32 nr = call->nr < CALL_NUMBERS ? call->nr : CALL_NUMBERS - 1;
	u32 index = call->abi * CALL_NUMBERS + nr;

	return capture_rows.lookup((int *)&index);
}

/* The call's row, or that of its command. */
static __always_inline struct capture_row *row_of(struct call_in_progress *call)
{
	struct capture_row *row = base_row(call), *variant;
	u64 *words = call->recorded.arguments;
	struct capture_key key;

	if (!row || row->selector == CAPTURE_NO_SELECTOR)
		return row;
	key.number = call->abi * CALL_NUMBERS + call->nr;
	key.command = words[row->selector & 7];
	if (row->selector & SELECTOR_SOCKET_LEVEL)
		key.command += words[(row->selector - 1) & 7] << 16;
	if (row->selector & SELECTOR_LOW_7_BITS)
		key.command &= 0x7f;
	if (row->selector & SELECTOR_WITHOUT_IPC_64)
		key.command &= ~IPC_64;
	variant = capture_variants.lookup(&key);
	return variant ? variant : row;
}

/* A record in this CPU's ring that is being written: a copy would take too much of the stack. */
struct open_call {
	struct kwatch_call *record;
	struct ring_position *at;
	u64 head;
};

/* False, and counted, if the ring is full. */
static __always_inline bool open_call(struct open_call *open)
{
	int cpu = bpf_get_smp_processor_id();

	open->at = syscall_positions.lookup(&cpu);
	open->record = open_record(syscall_rings.lookup(&cpu), open->at, &open->head);
	if (!open->record)
		return false;
	__builtin_memset(open->record->pieces, 0xff, sizeof(open->record->pieces));
	open->record->place = 0;
	return true;
}

static __always_inline void close_call(struct open_call *open, u32 tgid)
{
	u64 *words = (u64 *)open->record;

	close_record(open->at, open->head, &words[LAST_WORD(struct kwatch_syscall)], tgid);
}

static __always_inline void fill_record(struct kwatch_call *record, struct call_in_progress *call,
					u8 type, s64 result, u64 now)
{
#pragma unroll
	for (int i = 0; i < CAPTURE_CELLS; i++)
		record->arguments[i] = call->recorded.arguments[i];
	record->ip = call->recorded.ip;
	record->seq = call->recorded.seq;
	record->flags = call->recorded.flags;
	record->comm[0] = call->recorded.comm[0];
	record->comm[1] = call->recorded.comm[1];
	record->cgroup_id = call->recorded.cgroup_id;
#ifdef CALL_STACKS
	record->stack = call->stack;
#else
	record->stack = 0;
#endif
	record->uid = call->recorded.uid;
	record->entry_tid = call->recorded.tid;
	fill_syscall(&record->call, call, type, result, now);
}

/* A record without bytes. `now`: when the call ended. */
static __always_inline void send_syscall(struct call_in_progress *call, u8 type, s64 result, u64 now)
{
	struct open_call open = {};

	if (!open_call(&open)) {
		count_loss(call->tgid, LOSS_SYSCALL_RING_FULL);
		return;
	}
	fill_record(open.record, call, type, result, now);
	close_call(&open, call->tgid);
}

static __always_inline void lose_content(struct call_in_progress *call)
{
	call->recorded.flags = (call->recorded.flags | RECORDED_LOST) & ~RECORDED_KEPT;
	count_loss(call->tgid, LOSS_CALL_CONTENT);
}

static __always_inline void take_comm(u64 *comm, u64 task)
{
	comm[0] = task_word(task, TASK_COMM);
	comm[1] = task_word(task, TASK_COMM + sizeof(u64));
}

/* Who makes the call: it may change all of this. */
static __always_inline void take_caller(struct recorded_call *recorded, struct slot *slot)
{
	take_comm(recorded->comm, slot->task);
	recorded->uid = slot->user.uid;
	recorded->cgroup_id = slot->user.cgroup_id;
}

/* Arguments that the call does not take are whatever the registers held. */
static __always_inline void clear_unused(struct capture_row *row, u64 *words)
{
	if (!row || !(row->flags & CAPTURE_KNOWN) || row->selector != CAPTURE_NO_SELECTOR)
		return;
#pragma unroll
	for (int i = 0; i < CAPTURE_CELLS; i++)
		if (i >= row->words)
			words[i] = 0;
}

/* Keeps the registers of a call that is entered. */
static __always_inline void take_registers(struct pt_regs *regs, struct slot *slot)
{
	struct recorded_call *recorded = &slot->call.recorded;
	struct capture_row *row = base_row(&slot->call);

	all_arguments(regs, slot->call.abi, recorded->arguments);
#ifdef __x86_64__
	if (row && slot->call.abi == ABI_I386)
		inner_arguments(slot->call.nr, row->order, recorded->arguments);
#endif
	clear_unused(row, recorded->arguments);
	take_caller(recorded, slot);
	recorded->ip = instruction_pointer(regs);
	recorded->tid = slot->tid;
	recorded->seq = slot->capture.seq++;
	recorded->flags = 0;
	recorded->missing = 0;
}

/* Whether any argument that the row reads is more than a null pointer. */
static __always_inline bool points_to_any(struct capture_row *row, u64 *words)
{
	if (row->selector != CAPTURE_NO_SELECTOR)
		return true;
#pragma unroll
	for (int i = 0; i < CAPTURE_CELLS; i++)
		if (row->cells[i].what != WHAT_NONE && words[i])
			return true;
	return row->nested.what != NESTED_NONE && words[row->nested.word & 7];
}

/* Keeps what the call was given, unless the filter drops it. */
static __always_inline void record_entry(struct pt_regs *regs, struct slot *slot)
{
	if (!(slot->call.flags & CALL_TRACE))
		return;
	take_registers(regs, slot);
	if (!passes_entry(&slot->call))
		slot->call.flags &= ~CALL_TRACE;
}

/*
 * Keeps what the call is given, if that is short. If not, the programs that read it begin the call, too.
 */
static __always_inline void capture_entry(void *ctx, struct slot *slot)
{
	struct capture_row *row = base_row(&slot->call);

	if (!(slot->call.flags & CALL_TRACE))
		return;
	if (!row || !(row->flags & PIECES_AT_ENTRY) || !points_to_any(row, slot->call.recorded.arguments))
		return;
	if (keep_pieces(slot, row_of(&slot->call)))
		return;
	slot->capture.type = EVENT_CALL_ENTRY;
	slot->capture.reads = 1;
	capture_programs.call(ctx, 0);
	lose_content(&slot->call);
}

static __always_inline bool has_pieces_at_exit(struct call_in_progress *call, s64 result)
{
	struct capture_row *row = base_row(call);

	if (call->recorded.missing)
		return true;
	if (!row || !(row->flags & (is_error(result) ? PIECES_ON_ERROR : PIECES_AT_EXIT)))
		return false;
	return points_to_any(row, call->recorded.arguments);
}

static __always_inline void record_return(void *ctx, struct slot *slot, s64 result, u64 now)
{
	struct call_in_progress *call = &slot->call;
	struct capture *capture = &slot->capture;

	if (!passes_exit(call, result, now))
		return;
	capture->reads = has_pieces_at_exit(call, result);
	if (capture->reads || call->recorded.flags & RECORDED_KEPT) {
		capture->type = EVENT_SYSCALL;
		capture->result = result;
		capture->time_ns = now;
		capture_programs.call(ctx, 0);
		lose_content(call);
	}
	send_syscall(call, EVENT_SYSCALL, result, now);
}

/* A record of a thread that is in no call. */
static __always_inline bool open_event(struct slot *slot, struct open_call *open, u8 type, s64 result)
{
	struct kwatch_syscall *call;

	if (!open_call(open)) {
		count_loss(slot->tgid, LOSS_THREAD_EVENT);
		return false;
	}
	__builtin_memset(open->record->arguments, 0, sizeof(open->record->arguments));
	take_comm(open->record->comm, slot->task);
	open->record->cgroup_id = slot->user.cgroup_id;
	open->record->stack = 0;
	open->record->uid = slot->user.uid;
	open->record->entry_tid = slot->tid;
	open->record->ip = 0;
	open->record->seq = slot->capture.seq;
	open->record->flags = 0;
	call = &open->record->call;
	call->type = type;
	call->abi = slot->call.abi;
	call->nr = 0;
	call->tid = slot->tid;
	call->time_ns = bpf_ktime_get_ns();
	call->duration_ns = 0;
	call->result = result;
	return true;
}

/* The last record of a thread. */
static __always_inline void record_end(struct slot *slot, u32 status)
{
	struct open_call open = {};

	if (open_event(slot, &open, EVENT_THREAD_END, status))
		close_call(&open, slot->tgid);
}

#endif
