# SPDX-License-Identifier: Apache-2.0
"""The bytes that recorded calls have read, as columns: at their entry, then at their return."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kwatch.aggregate.call_join import JoinedCalls
from kwatch.wire.events import CALL, NO_PIECE, PIECES

#: The word of a call that has no path.
NO_PATH = 255

_NONE = np.uint16(NO_PIECE)
_WORD = 8
_OFFSET: int = dict(CALL.fields or {})["pieces"][1]
_PIECES_ONLY = np.dtype(
    {
        "names": ["pieces"],
        "formats": [f"V{2 * PIECES}"],
        "offsets": [_OFFSET],
        "itemsize": CALL.itemsize,
    }
)

Places = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]


class CallContents:
    """`records`: those at `order`, copied. `entries`: as in JoinedCalls, for these."""

    def __init__(
        self, joined: JoinedCalls, records: Records, order: Places, entries: Places
    ) -> None:
        self._data = joined.data
        self._count = len(order)
        entered = np.flatnonzero(entries >= 0)
        left = np.flatnonzero(_have_pieces(records))
        self._parts = (
            _Part(joined, entered, entries[entered]),
            _Part(joined, left, order[left]),
        )

    def pieces(self) -> list[pa.Array]:
        """The lengths of the pieces in the record of each call's entry, and of its return."""
        return [self._spread(part.rows, part.packed) for part in self._parts]

    def data(self) -> pa.Array:
        entry, leave = self._parts
        rows = np.concatenate((entry.rows, leave.rows))
        in_order = np.argsort(rows, kind="stable") if len(entry.rows) else slice(None)
        lengths = np.concatenate((entry.lengths, leave.lengths))[in_order]
        starts = np.concatenate((entry.starts, leave.starts))[in_order]
        bounds = np.zeros(self._count + 1, np.int32)
        bounds[entry.rows + 1] = entry.lengths
        bounds[leave.rows + 1] += leave.lengths.astype(np.int32)
        np.cumsum(bounds, out=bounds)
        gathered = slices(self._data, starts, lengths).buffers()[2]
        buffers = [None, pa.py_buffer(bounds), gathered or pa.py_buffer(b"")]
        return pa.Array.from_buffers(pa.binary(), self._count, buffers)

    def paths(self, words: npt.NDArray[np.uint8]) -> pa.Array:
        """The first path of each call without its null byte; null without one.

        `words`: which register of each call points to it, or NO_PATH.
        """
        starts = np.full(self._count, -1, np.int64)
        lengths = np.zeros(self._count, np.int64)
        for part in self._parts:
            has_path = np.flatnonzero(words[part.rows] != NO_PATH)
            at, length = part.piece(has_path, words[part.rows[has_path]])
            is_there = length > 0
            found = part.rows[has_path[is_there]]
            starts[found], lengths[found] = at[is_there], length[is_there]
        found = np.flatnonzero(starts >= 0)
        if not len(found):
            return pa.nulls(self._count, pa.binary())
        last = np.frombuffer(self._data, np.uint8)[starts[found] + lengths[found] - 1]
        lengths[found] -= last == 0
        bounds = np.zeros(self._count + 1, np.int32)
        np.cumsum(lengths, out=bounds[1:])
        gathered = slices(self._data, starts[found], lengths[found]).buffers()[2]
        buffers = [self._bitmap(found), pa.py_buffer(bounds), gathered or pa.py_buffer(b"")]
        return pa.Array.from_buffers(pa.binary(), self._count, buffers)

    def _spread(self, rows: Places, values: Records) -> pa.Array:
        """The values in these rows, null elsewhere."""
        kind = pa.binary(values.dtype.itemsize)
        if len(rows) == self._count:
            return fixed_binary(values)
        if not len(rows):
            return pa.nulls(self._count, kind)
        spread = np.zeros(self._count, values.dtype)
        spread[rows] = values
        buffers = [self._bitmap(rows), pa.py_buffer(spread)]
        return pa.Array.from_buffers(kind, self._count, buffers)

    def _bitmap(self, rows: Places) -> pa.Buffer:
        """Which rows are not null."""
        is_there = np.zeros(self._count, bool)
        is_there[rows] = True
        return pa.py_buffer(np.packbits(is_there, bitorder="little"))


class _Part:
    """The pieces of some records, which belong to these rows. `lengths`: the bytes of each one."""

    def __init__(self, joined: JoinedCalls, rows: Places, records: Places) -> None:
        self.rows = rows
        self.packed: Records = joined.events.view(_PIECES_ONLY)["pieces"][records]
        self.starts = joined.starts[records]
        pieces = self.packed.view(np.uint16).reshape(len(records), PIECES)
        by_piece = pieces.T.copy()  # of one record, it would be `packed` itself
        by_piece[by_piece == _NONE] = 0
        self._sizes = by_piece
        self.lengths: Places = by_piece.sum(axis=0, dtype=np.int64)

    def piece(self, at: Places, words: npt.NDArray[np.uint8]) -> tuple[Places, Places]:
        """Where the piece of each word begins, and its length, 0 for one that is not there."""
        sizes = self._sizes[:, at]
        ends = np.cumsum(sizes, axis=0, dtype=np.int64)
        which = words.astype(np.intp), np.arange(len(at))
        length = sizes[which].astype(np.int64)
        return self.starts[at] + ends[which] - length, length


def slices(data: bytes, starts: Places, lengths: Places) -> pa.Array:
    """Parts of the bytes, which do not overlap."""
    if not len(starts):
        return pa.array([], pa.binary())
    if (whole := _in_a_row(data, starts, lengths)) is not None:
        return whole
    is_in_order = bool((starts[1:] >= starts[:-1]).all())
    in_order = slice(None) if is_in_order else np.argsort(starts, kind="stable")
    bounds = np.empty(2 * len(starts), np.int32)
    bounds[::2] = starts[in_order]
    bounds[1::2] = bounds[::2] + lengths[in_order]
    np.maximum.accumulate(bounds, out=bounds)  # those without bytes begin anywhere
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(data)]
    parts = pa.Array.from_buffers(pa.binary(), len(bounds) - 1, buffers)
    place = np.empty(len(starts), np.int64)
    place[in_order] = 2 * np.arange(len(starts))
    return parts.take(pa.array(place))


def _in_a_row(data: bytes, starts: Places, lengths: Places) -> pa.Array | None:
    """The parts without a copy if each begins where the one before ends: those of one CPU do."""
    filled = np.flatnonzero(lengths)  # those without bytes begin anywhere
    bounds = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=bounds[1:])
    begins = starts[filled] - bounds[filled]
    if not len(filled) or (begins != begins[0]).any():
        return None
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(data)[int(begins[0]) :]]
    return pa.Array.from_buffers(pa.binary(), len(lengths), buffers)


def fixed_binary(values: npt.NDArray[np.generic]) -> pa.Array:
    """Values of a fixed number of bytes."""
    kind = pa.binary(values.dtype.itemsize)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _have_pieces(records: Records) -> npt.NDArray[np.bool_]:
    """Whether any piece was captured: whole words are compared, which is much faster."""
    words = records.view(np.uint64).reshape(len(records), records.itemsize // _WORD)
    offset = _OFFSET
    first, last = offset // _WORD, (offset + 2 * PIECES - 1) // _WORD
    outside = np.zeros((last - first + 1) * _WORD, np.uint8)
    outside[: offset - first * _WORD] = outside[offset - first * _WORD + 2 * PIECES :] = 0xFF
    found = np.full(len(records), np.uint64(2**64 - 1))
    for number, mask in enumerate(outside.view(np.uint64)):
        found &= words[:, first + number] | mask
    return np.not_equal(found, np.uint64(2**64 - 1))
