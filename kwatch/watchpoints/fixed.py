# SPDX-License-Identifier: Apache-2.0
"""Watches one address: one that the user gave, a variable, or the beginning of a function."""

from __future__ import annotations

from bisect import bisect_right

from kwatch.errors import UsageError
from kwatch.kernel.breakpoints import CODE_LENGTH, Access, Breakpoint
from kwatch.processes.process import Process
from kwatch.procfs.mappings import read_mappings
from kwatch.symbols.stack import Stack
from kwatch.watchpoints.options import WatchOptions
from kwatch.watchpoints.place import Place, find_place
from kwatch.watchpoints.site import LENGTHS, Site, require_aligned
from kwatch.watchpoints.watched import Watched
from kwatch.watchpoints.watchpoint import Watchpoint
from kwatch.wire.events import Batch


class FixedWatch:
    """Set again in each new program that the process runs, if it has the variable."""

    def __init__(self, options: WatchOptions, watchpoint: Watchpoint) -> None:
        self._options = options
        self._watchpoint = watchpoint
        self._mm_id = 0
        self._set: list[tuple[int, Breakpoint]] = []  # from when on
        self.found: Place | None = None
        self._looked_in: frozenset[str] = frozenset()  # in vain

    def arm(self, pid: int, mm_id: int) -> bool:
        """Whether it is set in the program that `mm_id` identifies. Raises KwatchError.

        A variable of a library is found once the library is mapped. An address is of the first
        program only.
        """
        if mm_id == self._mm_id and self._watchpoint.current is not None:
            return True
        if self._watchpoint.current is not None:
            self._watchpoint.drop()
        watched = self._breakpoint(pid)
        if watched is None:
            return False
        self._watchpoint.arm(pid, mm_id, watched)
        self._mm_id = mm_id
        self._set.append((self._watchpoint.armed_ns, watched))
        return True

    def watched_at(self, time_ns: int) -> Watched | None:
        """A hit may come before the time at which it was set is noted."""
        if not self._set:
            return None
        index = bisect_right(self._set, time_ns, key=lambda each: each[0])
        watched = self._set[max(index - 1, 0)][1]
        return Watched(watched, watched.address)

    def on_batch(self, source: str, batch: Batch) -> None:
        """No event moves it."""

    def on_stack(self, process: Process, identity: int, stack: Stack) -> None:
        """No stack moves it."""

    def _breakpoint(self, pid: int) -> Breakpoint | None:
        site, access = self._options.site, self._options.access
        if site.address is not None:
            if self._watchpoint.ever:
                return None
            return breakpoint_at(site, site.address, None, access)
        files = frozenset(each.path for each in read_mappings(pid))
        if files == self._looked_in:
            return None
        self._looked_in = files
        self.found = find_place(pid, site.name)
        if self.found is None:
            return None
        self._looked_in = frozenset()
        return breakpoint_at(site, self.found.address, self.found.size, access)


def breakpoint_at(site: Site, start: int, size: int | None, access: Access) -> Breakpoint:
    """`size`: of what is there, None if it is unknown. Raises UsageError."""
    address = start + site.offset
    if access is Access.EXECUTE:
        return Breakpoint(address, CODE_LENGTH, access)
    length = site.length or default_length(address, None if size is None else size - site.offset)
    require_aligned(site.text, address, length)
    if size is not None and site.offset + length > size:
        raise UsageError(
            f"{site.text!r}: {site.name} has {size} bytes, and bytes {site.offset} to "
            f"{site.offset + length - 1} are not all in it",
            "give a smaller offset or length",
        )
    return Breakpoint(address, length, access)


def default_length(address: int, room: int | None) -> int:
    """The most that one watchpoint can have there."""
    fitting = [each for each in LENGTHS if not address % each and each <= (room or LENGTHS[-1])]
    return fitting[-1] if fitting else LENGTHS[0]
