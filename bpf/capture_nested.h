/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Arguments that lead to further memory: vectors of buffers, messages, vectors of strings. They become
 * chunks, each a length (-1: not resident) and the bytes; see kwatch/syscalls/capture_format.py.
 */
#ifndef KWATCH_CAPTURE_NESTED_H
#define KWATCH_CAPTURE_NESTED_H

#define CHUNKS_AT_ONCE 8 /* by one program, of which 31 follow each other */
#define MAX_SEGMENTS 1024
#define MAX_INNER 128 /* bytes of a signal set */

enum walk_step {
	WALK_HEAD,
	WALK_NAME,
	WALK_CONTROL,
	WALK_VECTOR,
	WALK_SEGMENT,
	WALK_STRING,
	WALK_BYTES,
	WALK_DONE,
};

struct chunk {
	u64 from;
	u64 size;
	u8 what;
};

static __always_inline bool begin_walk(struct slot *slot, struct capture_row *row)
{
	struct capture *capture = &slot->capture;
	struct capture_nested *nested = &row->nested;
	u8 now = capture->type == EVENT_CALL_ENTRY ? WHEN_ENTRY : WHEN_EXIT;

	if (!nested->what || !(nested->when & now))
		return false;
	if (now == WHEN_EXIT && is_error(capture->result))
		return false;
	capture->walk.step = WALK_HEAD;
	capture->walk.begins = capture->used;
	return true;
}

static __always_inline void end_walk(struct capture *capture)
{
	capture->pieces[CAPTURE_PIECES - 1] = capture->used - capture->walk.begins;
}

/* An unsigned long of the program, and the next one. */
static __always_inline void read_pair(u64 from, bool narrow, u64 *first, u64 *second)
{
	u64 words[2] = {};

	read_user(words, narrow ? 8 : 16, (void *)from);
	*first = narrow ? (u32)words[0] : words[0];
	*second = narrow ? words[0] >> 32 : words[1];
}

static __always_inline u64 message_size(u8 what, bool narrow)
{
	u64 size = narrow ? 28 : 56;

	return what == NESTED_MMSGHDR ? size + (narrow ? 4 : 8) : size;
}

/* struct msghdr: include/linux/socket.h; include/net/compat.h for 32-bit callers. */
static __always_inline void load_message(struct slot *slot, u8 what, bool narrow)
{
	struct capture_walk *walk = &slot->capture.walk;
	bool is_received = slot->capture.type != EVENT_CALL_ENTRY;
	u64 at = walk->at + walk->message * message_size(what, narrow);
	u64 length, vector, segments, control, control_length;
	u32 received = 0;

	read_pair(at, narrow, &walk->name, &length);
	read_pair(at + (narrow ? 8 : 16), narrow, &vector, &segments);
	read_pair(at + (narrow ? 16 : 32), narrow, &control, &control_length);
	walk->name_length = length;
	walk->vector = vector;
	walk->segments = least(segments, MAX_SEGMENTS);
	walk->control = control;
	walk->control_length = least(control_length, 4096);
	walk->segment = 0;
	walk->left = -1ULL;
	if (what == NESTED_MMSGHDR && is_received) {
		read_user(&received, sizeof(received), (void *)(at + (narrow ? 28 : 56)));
		walk->left = received;
	} else if (is_received) {
		walk->left = slot->capture.result;
	}
}

static __always_inline void next_message(struct slot *slot, u8 what, bool narrow)
{
	struct capture_walk *walk = &slot->capture.walk;

	walk->message++;
	if (what == NESTED_IOVEC || walk->message >= walk->messages) {
		walk->step = WALK_DONE;
		return;
	}
	load_message(slot, what, narrow);
	walk->step = WALK_NAME;
}

/* What the argument itself points to. */
static __always_inline void first_chunk(struct slot *slot, struct capture_nested *nested, bool narrow,
					struct chunk *chunk)
{
	struct capture *capture = &slot->capture;
	struct capture_walk *walk = &capture->walk;
	u64 *words = slot->call.recorded.arguments;
	u64 result = capture->type == EVENT_CALL_ENTRY ? 0 : capture->result;
	u64 count = measure(nested->source, nested->operand, 1, words, result);

	count = least(count, MAX_SEGMENTS);
	walk->at = words[nested->word & 7];
	walk->message = 0;
	walk->segment = 0;
	chunk->from = walk->at;
	chunk->what = WHAT_BYTES;
	if (nested->what == NESTED_IOVEC) {
		chunk->size = count * (narrow ? 8 : 16);
		walk->copy = capture->used;
		walk->segments = nested->cap ? count : 0;
		walk->left = capture->type == EVENT_CALL_ENTRY ? -1ULL : result;
		walk->step = walk->segments ? WALK_SEGMENT : WALK_DONE;
	} else if (nested->what == NESTED_STRINGS) {
		chunk->size = 8 * MAX_SEGMENTS;
		chunk->what = WHAT_POINTERS;
		walk->step = WALK_STRING;
	} else if (nested->what == NESTED_POINTER) {
		chunk->size = narrow ? 8 : 16;
		walk->step = WALK_BYTES;
	} else {
		walk->messages = nested->what == NESTED_MMSGHDR ? count : 1;
		chunk->size = walk->messages * message_size(nested->what, narrow);
		walk->step = walk->messages ? WALK_NAME : WALK_DONE;
		load_message(slot, nested->what, narrow);
	}
	if (!walk->at)
		walk->step = WALK_DONE;
}

/*
 * Where the segment is, and its length, from the vector's chunk in the area: that costs no call. Both
 * stay 0 if the vector could not be read.
 */
static __always_inline void read_segment(struct capture *capture, u8 *area, bool narrow, u64 *base,
					 u64 *length)
{
	u64 start = capture->place, at = capture->walk.copy, offset = capture->walk.segment;
	u64 *pair;

	start &= AREA_SIZE - 1;
	KEEP_BOUND(start);
	if (at > MAX_CAPTURED || offset >= MAX_SEGMENTS)
		return;
	KEEP_BOUND(at);
	KEEP_BOUND(offset);
	area += start + at;
	if (*(s32 *)area < 0)
		return;
	pair = (u64 *)(area + sizeof(u32) + offset * (narrow ? 8 : 16));
	*base = narrow ? (u32)pair[0] : pair[0];
	*length = narrow ? pair[0] >> 32 : pair[1];
}

/* A buffer of a vector, as much of it as the result says. */
static __always_inline void next_segment(struct slot *slot, struct capture_nested *nested, bool narrow,
					 u8 *area, struct chunk *chunk)
{
	struct capture_walk *walk = &slot->capture.walk;
	u64 base = 0, length = 0;

	if (nested->cap)
		read_segment(&slot->capture, area, narrow, &base, &length);
	length = least(length, walk->left);
	if (walk->left != -1ULL)
		walk->left -= length;
	chunk->from = base;
	chunk->size = least(length, nested->cap);
	walk->segment++;
	if (walk->segment >= walk->segments)
		next_message(slot, nested->what, narrow);
}

/* False if there is no further string. */
static __always_inline bool next_string(struct slot *slot, struct capture_nested *nested, bool narrow,
					struct chunk *chunk)
{
	struct capture_walk *walk = &slot->capture.walk;
	u64 pointer = 0;

	if (walk->segment >= MAX_SEGMENTS)
		return false;
	read_user(&pointer, narrow ? 4 : 8, (void *)(walk->at + walk->segment * (narrow ? 4 : 8)));
	walk->segment++;
	chunk->from = pointer;
	chunk->size = nested->cap;
	chunk->what = WHAT_STRING;
	return pointer;
}

/* Says what the next chunk is, and steps on. False if there is none. */
static __always_inline bool next_chunk(struct slot *slot, struct capture_nested *nested, bool narrow,
				       u8 *area, struct chunk *chunk)
{
	struct capture_walk *walk = &slot->capture.walk;

	chunk->what = WHAT_BYTES;
	switch (walk->step) {
	case WALK_HEAD:
		first_chunk(slot, nested, narrow, chunk);
		return true;
	case WALK_NAME:
		chunk->from = walk->name_length ? walk->name : 0;
		chunk->size = least(walk->name_length, MAX_INNER);
		walk->step = WALK_CONTROL;
		return true;
	case WALK_CONTROL:
		chunk->from = walk->control;
		chunk->size = walk->control_length;
		walk->step = WALK_VECTOR;
		return true;
	case WALK_VECTOR:
		walk->copy = slot->capture.used;
		chunk->from = walk->vector;
		chunk->size = walk->segments * (narrow ? 8 : 16);
		walk->step = WALK_SEGMENT;
		if (!walk->segments || !walk->vector)
			next_message(slot, nested->what, narrow);
		return true;
	case WALK_SEGMENT:
		next_segment(slot, nested, narrow, area, chunk);
		return true;
	case WALK_STRING:
		return next_string(slot, nested, narrow, chunk);
	case WALK_BYTES:
		read_pair(walk->at, narrow, &chunk->from, &chunk->size);
		chunk->size = least(chunk->size, MAX_INNER);
		walk->step = WALK_DONE;
		return true;
	}
	return false;
}

/* Whether the argument would become longer than a piece may be. */
static __always_inline bool is_too_long(struct capture *capture, u64 size)
{
	return capture->used - capture->walk.begins + sizeof(u32) + size > MAX_PIECE;
}

/* False, and counted, if there is no room. */
static __always_inline bool write_chunk(struct slot *slot, u8 *area, struct chunk *chunk)
{
	u8 *to = next_piece(&slot->capture, area);
	u64 size = chunk->size;
	bool is_cut = false;
	s64 got = -1;

	KEEP_BOUND(size);
	if (size > MAX_PIECE - sizeof(u32))
		size = MAX_PIECE - sizeof(u32);
	if (!to || is_too_long(&slot->capture, size)) {
		lose_content(&slot->call);
		return false;
	}
	if (chunk->from)
		got = read_captured(chunk->what, to + sizeof(u32), size, chunk->from, &is_cut);
	to[0] = got;
	to[1] = got >> 8;
	to[2] = got < 0 ? 0xff : 0;
	to[3] = got < 0 ? 0xff : 0;
	slot->capture.used += sizeof(u32) + (got < 0 ? 0 : got & 0xffff);
	return true;
}

/* True if there are no more. */
static __always_inline bool take_chunks(struct slot *slot, struct capture_row *row, u8 *area)
{
	bool narrow = is_narrow(slot->call.abi);
	struct chunk chunk;

#pragma clang loop unroll(disable)
	for (int i = 0; i < CHUNKS_AT_ONCE; i++) {
		if (!next_chunk(slot, &row->nested, narrow, area, &chunk))
			return true;
		if (!write_chunk(slot, area, &chunk))
			return true;
	}
	return false;
}

#endif
