# SPDX-License-Identifier: Apache-2.0
"""Which pages of a process hold data. The others are not read: that would allocate them."""

from __future__ import annotations

import errno
import fcntl
import os

import numpy as np

from kwatch.reach.memory import PAGE, Ranges
from kwatch.reach.page_entries import PageEntries
from kwatch.reach.task import task_with_memory

#: Linux 6.7 (commit 52526ca7fdb9): struct pm_scan_arg, and the categories of pages.
_PAGEMAP_SCAN = 0xC0606610
_FILE, _PRESENT, _SWAPPED, _ZERO = 1 << 2, 1 << 3, 1 << 4, 1 << 5
_ARGUMENT_SIZE = 96
_MAX_RUNS = 4096


class PageMap:
    """The pages of one process. `descriptor`: an open /proc/PID/pagemap, which `close` closes."""

    def __init__(self, pid: int, descriptor: int | None = None) -> None:
        """Raises OSError."""
        if descriptor is None:
            pid = task_with_memory(pid)
            descriptor = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
        self._file = descriptor
        self._entries = PageEntries(pid, self._file)
        self._scans = True

    def skipped(self) -> list[tuple[int, int]]:
        """The ranges of which `resident` said nothing, since the last call: they were too large.

        Only where the kernel cannot scan page tables.
        """
        found, self._entries.skipped = self._entries.skipped, []
        return found

    def resident(self, start: int, end: int, shared: bool) -> Ranges:
        """The pages in memory or swapped out, as runs within these bounds.

        Without `shared`, leaves out unmodified pages of files: they are not the process's own data.
        Pages of zeros are left out where the kernel tells them apart.
        """
        first, last = start // PAGE * PAGE, -(-end // PAGE) * PAGE
        runs = self._scanned(first, last, shared) if self._scans else None
        if runs is None:
            runs = self._entries.resident(first, last, shared)
        return np.clip(runs, np.uint64(start), np.uint64(end))

    def close(self) -> None:
        os.close(self._file)

    def _scanned(self, start: int, end: int, shared: bool) -> Ranges | None:
        """None if the kernel cannot scan."""
        unwanted = _ZERO if shared else _ZERO | _FILE
        runs = np.empty((_MAX_RUNS, 3), np.uint64)
        found = []
        while start < end:
            argument = np.zeros(_ARGUMENT_SIZE // 8, np.uint64)
            argument[0], argument[2:4] = _ARGUMENT_SIZE, (start, end)
            argument[5:7] = runs.ctypes.data, _MAX_RUNS
            # category_inverted, category_mask, category_anyof_mask, return_mask
            argument[8:12] = unwanted, unwanted, _PRESENT | _SWAPPED, 0
            try:
                count = fcntl.ioctl(self._file, _PAGEMAP_SCAN, argument.data, True)
            except OSError as error:
                if error.errno not in (errno.ENOTTY, errno.EINVAL):
                    raise
                self._scans = False
                return None
            found.append(runs[:count, :2].copy())
            start = max(int(argument[4]), start + PAGE)  # walk_end
        return np.concatenate(found) if found else np.empty((0, 2), np.uint64)
