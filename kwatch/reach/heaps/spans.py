# SPDX-License-Identifier: Apache-2.0
"""Writable memory of a process, with adjacent mappings joined, and reading what is resident."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kwatch.aggregate.order import U64
from kwatch.reach.memory import PAGE, WORD, Bytes, Ranges, TargetMemory, Unreadable, as_ranges
from kwatch.reach.pages import PageMap
from kwatch.reach.regions import Region

#: glibc's data are at the start of a file's data; the rest of larger ones is not searched.
_MAX_DATA = 16 << 20
_MAX_ADDRESS = 1 << 56
_PART = 1 << 28  # of a span, whose pages are listed at a time


@dataclass(frozen=True, slots=True)
class Span:
    start: int
    end: int
    path: str

    @property
    def size(self) -> int:
        return self.end - self.start


class Reader:
    """Reads a process without allocating its pages: those that are not resident read as zeros."""

    def __init__(self, memory: TargetMemory, pages: PageMap) -> None:
        self._memory = memory
        self._pages = pages

    def words(self, start: int, count: int) -> U64 | None:
        """None if it cannot be read."""
        try:
            return self._memory.words(start, count)
        except (Unreadable, OverflowError):
            return None

    def word(self, address: int) -> int | None:
        read = self.words(address, 1)
        return None if read is None else int(read[0])

    def window(self, start: int, end: int, into: Bytes | None = None) -> U64:
        """The words in some memory. An array that is used again spares the kernel's work."""
        buffer = np.empty(end - start, np.uint8) if into is None else into[: end - start]
        runs = self.resident(start, end)
        if len(runs) != 1 or runs[0].tolist() != [start, end]:
            buffer[:] = 0
        for first, last in runs.tolist():
            self._memory.read(as_ranges([(first, last)]), buffer[first - start : last - start])
        return buffer.view(np.uint64)

    def resident(self, start: int, end: int) -> Ranges:
        try:
            return self._pages.resident(start, end, shared=False)
        except OSError:  # the process has ended
            return np.empty((0, 2), np.uint64)

    def resident_pages(self, start: int, end: int) -> Iterator[U64]:
        """The addresses of the resident pages, some at a time."""
        for first in range(start // PAGE * PAGE, end, _PART):
            runs = self.resident(first, min(end, first + _PART)).astype(np.int64)
            counts = -(-(runs[:, 1] - runs[:, 0]) // PAGE)
            before = np.repeat(np.cumsum(counts) - counts, counts)
            starts = np.repeat(runs[:, 0], counts)
            yield (starts + (np.arange(len(starts)) - before) * PAGE).astype(np.uint64)

    def headers(self, addresses: U64, words: int) -> U64:
        """Some words at each address, one row for each; zeros where they cannot be read."""
        rows = np.zeros((len(addresses), words), np.uint64)
        possible = np.flatnonzero(addresses < _MAX_ADDRESS)
        if len(possible):
            starts = addresses[possible]
            read = np.zeros((len(starts), words), np.uint64)
            ranges = np.column_stack((starts, starts + np.uint64(words * WORD)))
            self._memory.read(ranges, read.reshape(-1).view(np.uint8))
            rows[possible] = read
        return rows


def anonymous_spans(regions: Iterable[Region]) -> list[Span]:
    """Private writable memory without a file. A fork can split the mapping of a heap in two."""
    spans: list[Span] = []
    for region in regions:
        if not _is_anonymous(region):
            continue
        if spans and spans[-1].end == region.start and spans[-1].path == region.path:
            spans[-1] = Span(spans[-1].start, region.end, region.path)
        else:
            spans.append(Span(region.start, region.end, region.path))
    return spans


def _is_anonymous(region: Region) -> bool:
    if not region.permissions.startswith("rw") or region.is_shared:
        return False
    if region.path.startswith("/anon_hugepage"):
        return True
    return not region.inode and (not region.path.startswith("[") or _is_heap(region.path))


def _is_heap(path: str) -> bool:
    return path == "[heap]" or path.startswith("[anon:")


def data_spans(regions: Sequence[Region]) -> list[Span]:
    """The data of each mapped file, with its .bss."""
    spans: list[Span] = []
    for region in regions:
        if not region.permissions.startswith("rw") or region.is_shared:
            continue
        follows = bool(spans) and spans[-1].end == region.start
        if region.inode and not region.is_device:
            spans.append(Span(region.start, region.end, region.path))
        elif follows and (not region.path or region.path.startswith("[anon:")):
            spans[-1] = Span(spans[-1].start, region.end, spans[-1].path)
    return [Span(s.start, min(s.end, s.start + _MAX_DATA), s.path) for s in spans]
