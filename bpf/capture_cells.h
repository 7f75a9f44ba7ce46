/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What one cell of the capture plan says: how many bytes, and which. See capture_rows.h. */
#ifndef KWATCH_CAPTURE_CELLS_H
#define KWATCH_CAPTURE_CELLS_H

#define MAX_COUNT 0xffff /* more gives more bytes than any cap */

static long (*probe_read_user_str)(void *to, u32 size, const void *from) =
	(void *)BPF_FUNC_probe_read_user_str;

/* The length of the string with its null byte, which older kernels do not count if it is empty. */
static __always_inline s64 read_user_str(u8 *to, u32 size, u64 from)
{
	s64 got = probe_read_user_str(to, size, (void *)from);

	return got ? got : 1;
}

static __always_inline bool is_narrow(u8 abi)
{
	return abi == ABI_I386 || abi == ABI_X32 || abi == ABI_ARM;
}

/* `words`: a recorded_call's arguments; behind them, it has more. */
static __always_inline u64 first_operand(u8 source, u8 operand, u64 *words)
{
	u64 word = words[operand & 7];

	return source & CAPTURE_LOW_32 ? (u32)word : word;
}

static __always_inline u64 counted(u64 count)
{
	return count < MAX_COUNT ? count : MAX_COUNT;
}

/* The number of bytes or elements, from its source. */
static __always_inline u64 measure(u8 source, u8 operand, u16 scale, u64 *words, s64 result)
{
	u64 count = scale, word = first_operand(source, operand, words), limit;
	u32 pointee = 0;

	source &= ~CAPTURE_LOW_32;
	if (source == FROM_ARGUMENT)
		count *= counted(word);
	if (source == FROM_RESULT)
		count *= result < 0 ? 0 : counted(result);
	if (source == FROM_POINTEE || source == FROM_SECOND) {
		u64 from = word + (source == FROM_SECOND ? sizeof(pointee) : 0);

		read_user(&pointee, sizeof(pointee), (void *)from);
		count *= counted(pointee);
	}
	if (source == FROM_BITS)
		count = (counted(word) + 63) / 64 * 8;
	if (source == FROM_PAGES)
		count = (word + 4095) / 4096;
	if (operand >> 4 == CAPTURE_NO_LIMIT)
		return count;
	limit = counted(words[operand >> 4 & 7]) * scale;
	return count < limit ? count : limit;
}

static __always_inline u64 least(u64 a, u64 b)
{
	return a < b ? a : b;
}

/* Reads the bytes if they end in an earlier page than `size` bytes do; -1 if not, or not resident. */
static __always_inline s64 read_until_page(u8 *to, u64 size, u64 from, u64 until)
{
	if (until >= size)
		return -1;
	KEEP_BOUND(until);
	if (until > MAX_PIECE)
		return -1;
	return read_user(to, until, (void *)from) ? -1 : until;
}

/*
 * Reads up to `size` bytes, at most two pages: those before the first page that is not resident. -1 if
 * there are none.
 */
static __always_inline s64 read_some(u8 *to, u64 size, u64 from)
{
	u64 rest = PAGE_SIZE - (from & (PAGE_SIZE - 1));
	s64 got;

	if (!read_user(to, size, (void *)from))
		return size;
	got = read_until_page(to, size, from, rest + PAGE_SIZE);
	return got < 0 ? read_until_page(to, size, from, rest) : got;
}

/*
 * A string with its null byte; without, if it is longer than `size`. `*is_cut`: the rest was not
 * resident.
 */
static __always_inline s64 read_string(u8 *to, u64 size, u64 from, bool *is_cut)
{
	s64 got = read_user_str(to, size, from);
	u8 last = 0;

	if (got < 0) {
		*is_cut = true;
		return read_some(to, size, from);
	}
	if (got == size && size) { /* the helper has put a null byte at its end */
		read_user(&last, sizeof(last), (void *)(from + size - 1));
		if (last)
			return size - 1;
	}
	return got;
}

/* When the cell is read, and how many bytes it is. */
static __always_inline u8 cell_moments(struct capture_cell *cell, u64 *words)
{
	if (cell->what == WHAT_IOCTL)
		return words[1] >> 30 & (WHEN_ENTRY | WHEN_EXIT);
	return cell->when;
}

static __always_inline u64 cell_size(struct capture_cell *cell, u64 *words, s64 result)
{
	u64 size;

	if (cell->what == WHAT_IOCTL)
		return least(words[1] >> 16 & 0x3fff, cell->cap);
	if (cell->what != WHAT_BYTES)
		return cell->cap;
	size = measure(cell->source, cell->operand, cell->scale, words, result);
	return least(size + (cell->when >> 4) * 4, cell->cap);
}

/*
 * Reads the piece; its length, or -1. Pointers come with what lies behind the null one: to look for that
 * is too much for the verifier, and few calls have them.
 */
static __always_inline s64 read_captured(u8 what, u8 *to, u64 size, u64 from, bool *is_cut)
{
	if (what == WHAT_STRING)
		return read_string(to, size, from, is_cut);
	if (what == WHAT_POINTERS)
		return read_some(to, size, from);
	return read_user(to, size, (void *)from) ? -1 : size;
}

#endif
