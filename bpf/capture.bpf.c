/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Reads what the call's row says of the program's memory: at the entry, if that was not kept, or at the
 * exit. First the cells, then, in a program of its own, an argument that leads to further memory.
 *
 * The state of a capture is in the thread's slot, which no other thread touches.
 */

#include "capture_nested.h"

static __always_inline struct ring_position *area_position(struct capture *capture)
{
	int cpu = capture->cpu;

	return area_positions.lookup(&cpu);
}

static __always_inline bool is_at_entry(struct capture *capture)
{
	return capture->type == EVENT_CALL_ENTRY;
}

/* Begins with what was kept. `area`: of this CPU. False without room in it. */
static __always_inline bool begin_capture(struct slot *slot, u8 *area, bool shared)
{
	struct capture *capture = &slot->capture;
	bool has_kept = slot->call.recorded.flags & RECORDED_KEPT;
	struct ring_position *at;
	u8 *to;

	slot->call.recorded.flags &= ~RECORDED_KEPT;
	if (is_at_entry(capture))
		capture->time_ns = bpf_ktime_get_ns();
	capture->cpu = bpf_get_smp_processor_id();
	capture->used = 0;
	__builtin_memset(capture->pieces, 0xff, sizeof(capture->pieces));
	at = area_position(capture);
	if (!area || !at || !at->mask || !reserve_area(at, &capture->place, shared))
		return false;
	to = next_piece(capture, area);
	if (has_kept && to)
		take_kept(slot, to);
	return true;
}

static __always_inline void fill_capture(struct kwatch_call *record, struct slot *slot)
{
	struct call_in_progress *call = &slot->call;
	struct capture *capture = &slot->capture;
	bool entry = is_at_entry(capture);

	fill_record(record, call, capture->type, entry ? 0 : capture->result, capture->time_ns);
	if (entry)
		record->call.duration_ns = 0;
	record->place = capture->place | (u64)capture->cpu << KWATCH_PLACE_BITS;
	if (capture->used)
		record->flags |= RECORDED_BYTES;
#pragma unroll
	for (int i = 0; i < CAPTURE_PIECES; i++)
		record->pieces[i] = capture->pieces[i];
}

/*
 * Sends the record, whose bytes are in the area, or gives them back. If another capture has interrupted
 * a preempted one, the reader may release its bytes too early: they are lost.
 */
static __always_inline void send_capture(struct slot *slot, bool shared)
{
	struct call_in_progress *call = &slot->call;
	struct capture *capture = &slot->capture;
	struct ring_position *at = area_position(capture);
	struct open_call open = {};

	if (!at)
		return;
	if (!shrink_area(at, capture->place, MAX_CAPTURE, capture->used, shared)) {
		lose_content(call);
		return;
	}
	if (open_call(&open)) {
		fill_capture(open.record, slot);
		close_call(&open, call->tgid);
		call->recorded.flags |= is_at_entry(capture) ? RECORDED_ENTRY : 0;
		if (is_time_to_wake(capture->place, capture->used))
			ring_doorbell();
		return;
	}
	shrink_area(at, capture->place, capture->used, 0, shared);
	if (is_at_entry(capture))
		lose_content(call);
	else
		count_loss(call->tgid, LOSS_SYSCALL_RING_FULL);
}

/* The capture is over; if the call was entered, it begins. */
static __always_inline void end_capture(struct slot *slot, bool has_begun)
{
	struct call_in_progress *call = &slot->call;

	if (has_begun) {
		send_capture(slot, false);
	} else {
		lose_content(call);
		if (!is_at_entry(&slot->capture))
			send_syscall(call, EVENT_SYSCALL, slot->capture.result, slot->capture.time_ns);
	}
	if (is_at_entry(&slot->capture))
		begin_call(call);
}

/*
 * Whether to read the piece with this number now: those up to 5 at the entry, and again at the exit if
 * they could not be read then.
 */
static __always_inline bool is_wanted(struct slot *slot, struct capture_cell *cell, int piece)
{
	struct capture *capture = &slot->capture;
	struct recorded_call *recorded = &slot->call.recorded;
	u8 when = cell_moments(cell, recorded->arguments);

	if (cell->what == WHAT_NONE)
		return false;
	if (is_at_entry(capture))
		return piece < CAPTURE_CELLS && when & WHEN_ENTRY;
	if (piece < CAPTURE_CELLS)
		return recorded->missing >> piece & 1;
	return when & WHEN_EXIT && (when & WHEN_ON_ERROR || !is_error(capture->result));
}

static __always_inline void capture_cell(struct slot *slot, u8 *area, struct capture_cell *cell,
					 int piece, u64 from)
{
	struct capture *capture = &slot->capture;
	struct recorded_call *recorded = &slot->call.recorded;
	u64 size = cell_size(cell, recorded->arguments, is_at_entry(capture) ? 0 : capture->result);
	u8 *to = next_piece(capture, area);
	bool is_cut = false;
	s64 got;

	if (!to) {
		lose_content(&slot->call);
		return;
	}
	KEEP_BOUND(size);
	if (size > MAX_PIECE)
		size = MAX_PIECE;
	got = read_captured(cell->what, to, size, from, &is_cut);
	if (got < 0 || is_cut)
		recorded->missing |= is_at_entry(capture) ? 1 << piece : 0;
	if (got < 0)
		return;
	capture->pieces[piece] = got;
	capture->used += got & 0xffff;
}

/* The first that may be wanted. */
static __always_inline int first_piece(struct slot *slot)
{
	if (is_at_entry(&slot->capture) || slot->call.recorded.missing)
		return 0;
	return CAPTURE_CELLS;
}

/* Sends what is kept of a call whose record will not have it. `shared`: as in capture_area.h. */
static __always_inline void send_kept(struct slot *slot, bool shared)
{
	if (!(slot->call.recorded.flags & RECORDED_KEPT))
		return;
	slot->capture.type = EVENT_CALL_ENTRY;
	if (begin_capture(slot, area_of(bpf_get_smp_processor_id()), shared))
		send_capture(slot, shared);
	else
		lose_content(&slot->call);
}

int capture_call(struct enter_context *ctx)
{
	struct slot *slot = find_slot(stack_at_call(ctx));
	struct capture_row *row;
	u8 *area;

	if (!slot)
		return 0;
	area = area_of(bpf_get_smp_processor_id());
	if (!begin_capture(slot, area, false) || !area) {
		end_capture(slot, false);
		return 0;
	}
	row = slot->capture.reads ? row_of(&slot->call) : NULL;
	if (!row) {
		end_capture(slot, true);
		return 0;
	}
#pragma clang loop unroll(disable)
	for (int piece = first_piece(slot); piece < 2 * CAPTURE_CELLS; piece++) {
		int i = piece < CAPTURE_CELLS ? piece : piece - CAPTURE_CELLS;
		u64 from = slot->call.recorded.arguments[i];

		if (piece == CAPTURE_CELLS && is_at_entry(&slot->capture))
			break;
		if (from && is_wanted(slot, &row->cells[i], piece))
			capture_cell(slot, area, &row->cells[i], piece, from);
	}
	if (begin_walk(slot, row)) {
		nested_programs.call(ctx, 0);
		lose_content(&slot->call); /* a deep stack has used up the tail calls */
	}
	end_capture(slot, true);
	return 0;
}

/* Reads some chunks, then calls itself for the next ones. */
int capture_nested(struct enter_context *ctx)
{
	struct slot *slot = find_slot(stack_at_call(ctx));
	struct capture_row *row;
	u8 *area;

	if (!slot)
		return 0;
	row = row_of(&slot->call);
	area = area_of(slot->capture.cpu);
	if (row && area) {
		if (!take_chunks(slot, row, area))
			nested_programs.call(ctx, 0);
		end_walk(&slot->capture);
	}
	end_capture(slot, true);
	return 0;
}
