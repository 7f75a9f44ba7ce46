# SPDX-License-Identifier: Apache-2.0
"""Which pages hold data, from /proc/PID/pagemap: for kernels that cannot scan page tables.

The file has an entry for each page that is mapped, even if no page exists, so that a large mapping
takes long: 2 to 10 ms of CPU time for each GB.
"""

from __future__ import annotations

import os
import re
import time

import numpy as np

from kwatch.reach.memory import Ranges

#: Bits of an entry: Documentation/admin-guide/mm/pagemap.rst.
_SWAPPED_OR_PRESENT = 62
_FILE = 61
_MAX_AT_ONCE = 1 << 18

#: From here on, smaps is asked first whether a mapping has pages at all. Many reserve addresses.
_LARGE = 1 << 32
#: A larger mapping that has pages is not looked at: it would take a second or more.
_MAX_SIZE = 1 << 37
_SMAPS_SECONDS = 0.1  # for so long it holds
_MAPPING = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ")
_PAGES = (b"Rss:", b"Swap:", b"Private_Hugetlb:", b"Shared_Hugetlb:")


class PageEntries:
    """The entries of one process, from an open /proc/PID/pagemap that the caller closes.

    `skipped`: ranges that were too large to look at; the caller empties it.
    """

    def __init__(self, pid: int, pagemap: int) -> None:
        self.skipped: list[tuple[int, int]] = []
        self._pid = pid
        self._file = pagemap
        self._mappings: list[tuple[int, int, int]] = []
        self._read_at = 0.0

    def resident(self, start: int, end: int, shared: bool) -> Ranges:
        """See PageMap.resident(); the bounds are those of pages. Pages of zeros are listed."""
        if end - start >= _LARGE:
            if not self._has_pages(start, end):
                return _none()
            if end - start > _MAX_SIZE:
                self.skipped.append((start, end))
                return _none()
        return self._looked_up(start, end, shared)

    def _looked_up(self, start: int, end: int, shared: bool) -> Ranges:
        found = []
        size = os.sysconf("SC_PAGE_SIZE")
        for at in range(start // size, -(-end // size), _MAX_AT_ONCE):
            count = min(_MAX_AT_ONCE, -(-end // size) - at)
            entries = np.frombuffer(os.pread(self._file, count * 8, at * 8), np.uint64)
            wanted = entries >> np.uint64(_SWAPPED_OR_PRESENT) != 0
            if not shared:
                wanted &= entries >> np.uint64(_FILE) & np.uint64(1) == 0
            edges = np.flatnonzero(np.diff(np.concatenate(([False], wanted, [False]))))
            found.append((edges.reshape(-1, 2) + at).astype(np.uint64) * np.uint64(size))
        return np.concatenate(found) if found else _none()

    def _has_pages(self, start: int, end: int) -> bool:
        if time.monotonic() - self._read_at > _SMAPS_SECONDS:
            self._mappings, self._read_at = self._read_smaps(), time.monotonic()
        known = [each for each in self._mappings if each[0] < end and each[1] > start]
        return not known or any(pages for _, _, pages in known)

    def _read_smaps(self) -> list[tuple[int, int, int]]:
        """Start, end, and how many KB exist, of each mapping; nothing if it cannot be read."""
        found: list[tuple[int, int, int]] = []
        try:
            with open(f"/proc/{self._pid}/smaps", "rb") as file:
                for line in file:
                    if match := _MAPPING.match(line):
                        found.append((int(match[1], 16), int(match[2], 16), 0))
                    elif line.startswith(_PAGES):
                        start, end, pages = found[-1]
                        found[-1] = start, end, pages + int(line.split()[1])
        except OSError:
            return []
        return found


def _none() -> Ranges:
    return np.empty((0, 2), np.uint64)
