/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What most calls are given is short. It is kept in the thread's slot (RECORDED_KEPT) until the call
 * returns, and goes into the area with the record of the return: a record of the entry costs the
 * program 150 ns, and the reader as much as another call.
 */
#ifndef KWATCH_CAPTURE_KEPT_H
#define KWATCH_CAPTURE_KEPT_H

#define KEPT_WORDS ((KEPT_START + KEPT_PIECE) / sizeof(u64))

/* Its length; -1 if it is not resident or longer than `size` or, of a string, as long. */
static __always_inline s64 read_kept(u8 what, u8 *to, u64 size, u64 from)
{
	s64 got = size;

	if (what == WHAT_POINTERS || (what != WHAT_STRING && size > KEPT_PIECE))
		return -1;
	KEEP_BOUND(size);
	if (size > KEPT_PIECE)
		size = KEPT_PIECE;
	if (what != WHAT_STRING)
		return read_user(to, size, (void *)from) ? -1 : got;
	got = read_user_str(to, size, from);
	return got < size ? got : -1;
}

/* Where the next piece begins; NULL if too much is kept. Linux 6.1 does not know the bound by itself. */
static __always_inline u8 *next_kept(struct kept_pieces *kept)
{
	u64 used = *(volatile u16 *)&kept->used;

	if (used >= KEPT_START)
		return NULL;
	KEEP_BOUND(used);
	return kept->bytes + (used & (KEPT_START - 1));
}

static __always_inline bool keep_piece(struct slot *slot, struct capture_cell *cell, int piece,
				       u64 from)
{
	struct kept_pieces *kept = &slot->kept;
	u64 size = cell_size(cell, slot->call.recorded.arguments, 0);
	u8 *to = next_kept(kept);
	s64 got;

	if (!to)
		return false;
	got = read_kept(cell->what, to, size, from);
	if (got < 0)
		return false;
	kept->pieces[piece] = got;
	kept->used += got;
	return true;
}

/*
 * The vector alone, which goes behind all other pieces: of a call whose buffers are not wanted, and that
 * has no pieces at the exit.
 */
static __always_inline bool keep_vector(struct slot *slot, struct capture_row *row)
{
	struct capture_nested *nested = &row->nested;
	struct kept_pieces *kept = &slot->kept;
	u64 *words = slot->call.recorded.arguments, from = words[nested->word & 7];
	u64 size = measure(nested->source, nested->operand, is_narrow(slot->call.abi) ? 8 : 16, words, 0);
	u8 *to;

	if (nested->what != NESTED_IOVEC || nested->cap || row->flags & PIECES_AT_EXIT)
		return false;
	to = next_kept(kept);
	KEEP_BOUND(size);
	if (!from || !to || size > KEPT_PIECE - sizeof(u32))
		return false;
	if (read_user(to + sizeof(u32), size, (void *)from))
		return false;
	to[0] = size;
	to[1] = to[2] = to[3] = 0;
	kept->pieces[CAPTURE_CELLS] = size + sizeof(u32);
	kept->used += size + sizeof(u32);
	return true;
}

/* Reads what the row says at the entry. False if that needs a record of its own. */
static __always_inline bool keep_pieces(struct slot *slot, struct capture_row *row)
{
	u64 *words = slot->call.recorded.arguments;

	if (!row || slot->call.state != CALL_ENTERED || slot->call.flags & CALL_MEMORY)
		return false;
	slot->kept.used = 0;
	__builtin_memset(slot->kept.pieces, 0xff, sizeof(slot->kept.pieces));
#pragma clang loop unroll(disable)
	for (int i = 0; i < CAPTURE_CELLS; i++) {
		struct capture_cell *cell = &row->cells[i];

		if (!words[i] || cell->what == WHAT_NONE)
			continue;
		if (cell_moments(cell, words) & WHEN_ENTRY && !keep_piece(slot, cell, i, words[i]))
			return false;
	}
	if (row->nested.what != NESTED_NONE && row->nested.when & WHEN_ENTRY && !keep_vector(slot, row))
		return false;
	slot->call.recorded.flags |= RECORDED_KEPT;
	return true;
}

/* Puts what was kept at the begin of a capture. */
static __always_inline void take_kept(struct slot *slot, u8 *to)
{
	struct capture *capture = &slot->capture;
	volatile u64 *from = (u64 *)slot->kept.bytes, *word = (u64 *)to;
	u32 used = slot->kept.used;

#pragma unroll
	for (int i = 0; i < CAPTURE_CELLS; i++)
		capture->pieces[i] = slot->kept.pieces[i];
	capture->pieces[CAPTURE_PIECES - 1] = slot->kept.pieces[CAPTURE_CELLS];
	capture->used = used;
#pragma clang loop unroll(disable)
	for (u64 i = 0; i < KEPT_WORDS; i++) {
		if (i * sizeof(u64) >= used)
			break;
		word[i] = from[i];
		KEEP_BOUND(i);
	}
}

#endif
