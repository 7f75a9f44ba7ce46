# SPDX-License-Identifier: Apache-2.0
"""A process in a buffer: a libc with a main arena, its heap, and other memory."""

from __future__ import annotations

import numpy as np

from kwatch.reach.heaps.layouts import Layout
from kwatch.reach.memory import PAGE, Unreadable
from kwatch.reach.regions import Region

LIBC, HEAP, MAPPED = 0x7F0000100000, 0x555500000000, 0x7F0000800000
ARENA, PAR = LIBC + 0x400, LIBC + 0x1000
TCACHE = 0x290  # size of the first chunk
KEY = 0x9E3779B97F4A7C15


class FakeMemory:
    """Stands for TargetMemory and PageMap. `parts`: start addresses and their words."""

    def __init__(self, parts):
        self.parts = parts
        self.reads = 0

    def read(self, ranges, into):
        self.reads += 1
        unreadable, filled = [], 0
        for start, end in np.asarray(ranges).tolist():
            data = self._bytes(start, end)
            into[filled : filled + end - start] = 0 if data is None else data
            if data is None:
                unreadable.append((start, end))
            filled += end - start
        return unreadable

    def words(self, start, count):
        data = self._bytes(start, start + count * 8)
        if data is None:
            raise Unreadable(hex(start))
        return data.copy().view(np.uint64)

    def resident(self, start, end, shared):
        runs = [
            (max(start, first), min(end, first + len(words) * 8))
            for first, words in sorted(self.parts.items())
        ]
        return np.array([run for run in runs if run[0] < run[1]], np.uint64).reshape(-1, 2)

    def _bytes(self, start, end):
        for first, words in self.parts.items():
            if first <= start and end <= first + len(words) * 8:
                return words.view(np.uint8)[start - first : end - first]
        return None


class FakeHeap:
    """A tcache, then chunks of the given sizes, every third one free, and the top.

    Of those that are not, every fourth of at most 128 bytes is in the tcache, and the next one in a
    fastbin if the layout has some.
    """

    def __init__(self, sizes, layout: Layout, start=HEAP):
        self.layout = layout
        self.start = start
        pages = -(-(TCACHE + sum(sizes) + PAGE) // PAGE)
        self.heap = np.zeros(pages * PAGE // 8, np.uint64)
        self.live = self._chunks(sizes)
        self.libc = np.zeros(2 * PAGE // 8, np.uint64)
        self._arena(len(self.heap) * 8)
        self.mapped = np.zeros(4 * PAGE // 8, np.uint64)
        self.mapped[1] = 4 * PAGE - layout.mapped_trailer | 2
        usable = 4 * PAGE - 16 - layout.mapped_trailer // 2
        self.live[MAPPED + 16] = usable

    @property
    def memory(self):
        return FakeMemory({self.start: self.heap, LIBC: self.libc, MAPPED: self.mapped})

    @property
    def regions(self):
        return [
            Region(self.start, self.start + len(self.heap) * 8, "rw-p", 0, "[heap]"),
            Region(LIBC, LIBC + len(self.libc) * 8, "rw-p", 7, "/libc.so.6"),
            Region(MAPPED, MAPPED + len(self.mapped) * 8, "rw-p", 0, ""),
        ]

    def _chunks(self, sizes):
        self.fast = dict.fromkeys(range(8), 0)
        live, at, previous_used = {}, TCACHE, True
        self.heap[1] = TCACHE | 1
        for number, size in enumerate(sizes):
            used = number % 3 != 1
            self.heap[at // 8 + 1] = size | previous_used
            if used:
                self.heap[at // 8 + 2 : (at + size) // 8] = number
                if not self._is_cached(number, at, size):
                    live[self.start + at + 16] = size - 8
            previous_used = used
            at += size
            if not used:
                self.heap[at // 8] = size
        if not self.heap[18:82].any():  # an empty tcache looks like any block
            live[self.start + 16] = TCACHE - 8
        self.top = at
        self.heap[at // 8 + 1] = len(self.heap) * 8 - at | previous_used
        return live

    def _is_cached(self, number, at, size):
        """Puts some chunks into a list. Links are protected: see malloc.c, PROTECT_PTR."""
        kind, bin_number = number // 3 % 4, size // 16 - 2
        block = self.start + at + 16
        if size > 128 or kind > 1 or (kind == 1 and self.layout.bins == 3):
            return False
        if kind == 0:
            counts = self.heap[2:18].view(np.uint16)
            head = self.heap[18 + bin_number : 19 + bin_number]
            self.heap[at // 8 + 2 : at // 8 + 4] = int(head[0]) ^ block >> 12, KEY
            head[0] = block
            counts[bin_number] += 1
        else:
            self.heap[at // 8 + 2] = self.fast[bin_number] ^ block >> 12
            self.fast[bin_number] = self.start + at
        return True

    def _arena(self, size):
        layout, first = self.layout, (ARENA - LIBC) // 8
        bins = ARENA + layout.bins * 8 - 16
        for number in range(127):
            place = first + layout.bins + 2 * number
            self.libc[place : place + 2] = bins + 16 * number
        self.libc[first + layout.top] = self.start + self.top
        self.libc[first + layout.next] = ARENA
        self.libc[first + layout.system_mem] = self.libc[first + layout.max_system_mem] = size
        for number, chunk in self.fast.items():
            if chunk:
                self.libc[first + layout.bins - 12 + number] = chunk
        par = (PAR - LIBC) // 8
        # n_mmaps, n_mmaps_max, max_n_mmaps, no_dyn_threshold; mapped bytes now and at most.
        self.libc[par : par + 2] = 1 | 65536 << 32, 1
        self.libc[par + 2 : par + 5] = 4 * PAGE, 4 * PAGE, self.start
        self.libc[par + 5 : par + 8] = 64, 1033, 7
        self.libc[par + 20] = KEY
