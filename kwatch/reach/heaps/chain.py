# SPDX-License-Identifier: Apache-2.0
"""Lists the chunks of one piece of a heap, also while the process changes it."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import U64
from kwatch.reach.heaps.layouts import (
    IS_MMAPPED,
    NON_MAIN_ARENA,
    SIZE_BITS,
    UNIT,
    WORD,
)
from kwatch.reach.heaps.spans import Reader
from kwatch.reach.heaps.window import Bools, Marked, Stop, Watched, Window, follow

Units = npt.NDArray[np.generic]

_WINDOW = 4 << 20
_BEHIND = 32  # what is read behind a window: the header and two words of its last chunk
_MAX_RETRIES = 24
_QUICK_RETRIES = 6
_PAUSE = 0.001  # lets a thread go on that was preempted while it changed the heap
_UNTRUSTED = 64  # chunks before a bad one, which may be wrong too
_NARROW = UNIT << 32  # up to this size of a piece, 4 bytes for each chunk are enough


class Ending(enum.Enum):
    TOP = enum.auto()  # the last chunk is the top of the arena
    FENCE = enum.auto()  # the heap goes on in another piece
    BAD = enum.auto()


@dataclass(slots=True)
class Chain:
    """The chunks from `start`, in units of 16 bytes from there. `end` is behind the last one.

    An in-use chunk is live, or in a tcache or a fastbin.
    """

    start: int
    end: int
    ending: Ending
    units: Units
    in_use: Bools
    marked: Marked

    def in_use_between(self, first: int, last: int) -> tuple[U64, U64]:
        """Addresses and sizes of the chunks in use among some, by their numbers."""
        units = self.units[first : last + 1].astype(np.uint64)
        if last >= len(self.units):
            units = np.append(units, np.uint64((self.end - self.start) // UNIT))
        chosen = self.in_use[first:last]
        sizes = np.diff(units)[chosen] * np.uint64(UNIT)
        return np.uint64(self.start) + units[:-1][chosen] * np.uint64(UNIT), sizes

    def forget(self) -> None:
        self.units, self.in_use = self.units[:0].copy(), self.in_use[:0].copy()


class ChainWalk:
    """Walks pieces of one arena. `top` reads the address of its top chunk."""

    def __init__(
        self, reader: Reader, is_main: bool, top: Callable[[], int], watched: Watched
    ) -> None:
        self._reader = reader
        self._forbidden = IS_MMAPPED | 8 | (NON_MAIN_ARENA if is_main else 0)
        self._top = top
        self._watched = watched
        self._buffer = np.empty(_WINDOW + _BEHIND, np.uint8)
        self.retries = 0

    def walk(self, start: int, end: int, max_retries: int = _MAX_RETRIES) -> Chain:
        piece = _Piece(start, end)
        position = furthest = start
        retries = 0
        while True:
            window = self._follow(position, end)
            piece.add(window)
            if window.stop is Stop.FENCE:
                return piece.chain(window.next, Ending.FENCE, window.fence_bit)
            if window.stop is Stop.NEXT and window.next < end:
                position = window.next
                if position > furthest:
                    furthest, retries = position, 0
                continue
            top = self._top()
            if window.stop is Stop.NEXT and window.next == end and piece.last <= top:
                return piece.chain(end, Ending.TOP, False)
            if piece.cut_behind(top):
                return piece.chain(self._end_of_top(top, end), Ending.TOP, False)
            if window.stop is Stop.NEXT and window.next > end and top > end:
                return piece.without_last(1, Ending.TOP)  # the heap has grown over the end
            if retries >= max_retries:
                return piece.without_last(_UNTRUSTED, Ending.BAD)
            retries += 1
            self.retries += 1
            if retries > _QUICK_RETRIES:
                time.sleep(_PAUSE)
            position = piece.step_back(4 ** min(retries, 12))

    def _follow(self, position: int, end: int) -> Window:
        limit = min(end, position + _WINDOW)
        words = self._reader.window(position, min(end, limit + _BEHIND), self._buffer)
        return follow(words, position, limit, self._forbidden, self._watched)

    def _end_of_top(self, top: int, end: int) -> int:
        size = (self._reader.word(top + WORD) or 0) & ~SIZE_BITS
        return min(end, top + max(size, 2 * UNIT))


class _Piece:
    """The windows of a piece that were walked so far."""

    def __init__(self, start: int, end: int) -> None:
        self._start = start
        self._type = np.uint32 if end - start <= _NARROW else np.uint64
        self._parts: list[tuple[Units, Bools, Marked]] = []

    @property
    def last(self) -> int:
        """The address of the last chunk; 0 if there is none."""
        for units, _, _ in reversed(self._parts):
            if len(units):
                return self._start + int(units[-1]) * UNIT
        return 0

    def add(self, window: Window) -> None:
        units: Units = ((window.chunks - np.uint64(self._start)) // np.uint64(UNIT)).astype(
            self._type
        )
        self._parts.append((units, window.prev_in_use, window.marked))

    def cut_behind(self, chunk: int) -> bool:
        """Drops what follows a chunk; False if there is no such chunk."""
        unit, rest = divmod(chunk - self._start, UNIT)
        for number in reversed(range(len(self._parts))):
            units = self._parts[number][0]
            if not len(units) or unit < int(units[0]):
                continue
            place = int(np.searchsorted(units, unit))
            if rest or place == len(units) or int(units[place]) != unit:
                return False
            self._cut(number, place + 1)
            return True
        return False

    def step_back(self, count: int) -> int:
        """Drops the last chunks; returns where to go on."""
        while self._parts:
            units = self._parts[-1][0]
            if len(units) > count:
                self._cut(len(self._parts) - 1, len(units) - count)
                return self._start + int(units[-count]) * UNIT
            count -= len(units)
            self._parts.pop()
            if not count and len(units):
                return self._start + int(units[0]) * UNIT
        return self._start

    def without_last(self, dropped: int, ending: Ending) -> Chain:
        """The chunks but for some at the end, which cannot be trusted."""
        whole = self.chain(self._start, ending, False)
        count = max(len(whole.units) - dropped, 0)
        end = self._start + (int(whole.units[count]) * UNIT if count else 0)
        marked = whole.marked.before(end)
        units, in_use = whole.units[:count], whole.in_use[:count]
        return Chain(self._start, end, ending, units, in_use, marked)

    def chain(self, end: int, ending: Ending, last_in_use: bool) -> Chain:
        parts = self._parts or [(np.empty(0, self._type), np.empty(0, bool), Marked.none())]
        self._parts = []
        units, bits, marked = zip(*parts, strict=True)
        prev_in_use = np.concatenate(bits)
        in_use = np.append(prev_in_use[1:], last_in_use)[: len(prev_in_use)]
        together = Marked.joined(marked)
        return Chain(self._start, end, ending, np.concatenate(units), in_use, together)

    def _cut(self, number: int, count: int) -> None:
        """Keeps `count` chunks of one part and drops what follows."""
        units, bits, marked = self._parts[number]
        end = self._start + int(units[count]) * UNIT if count < len(units) else None
        kept = marked if end is None else marked.before(end)
        self._parts[number:] = [(units[:count], bits[:count], kept)]
