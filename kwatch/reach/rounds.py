# SPDX-License-Identifier: Apache-2.0
"""Repeats scans of a running process until it is certain which blocks are lost.

While a scan reads, the process moves pointers: one can be missed in every place. A block is lost if
it is lost in every scan. With pointers that move ten million times a second, two scans leave
thousands of false losses, and four that remove nothing left none in 40 runs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import U64
from kwatch.model.reach import Reach
from kwatch.reach.block_table import Table

QUIET_SCANS = 4
MAX_SCANS = 40

_Mask = npt.NDArray[np.bool_]


class Rounds:
    """Takes the scans of one process, in order, as tables of dtype SCANNED.

    `is_still`: nothing changes its memory, so one scan is enough.
    """

    def __init__(self, is_still: bool = False) -> None:
        self.scans = 0
        self.blind_threads = 0  # in the scan with the fewest
        # Whether the next scan asks for what only the kernel holds: the process pays for that.
        self.ask_kernel = False
        self._is_still = is_still
        self._quiet = 0
        self._addresses = self._sizes = np.empty(0, np.uint64)
        self._last: Table | None = None

    def add(self, scanned: Table, blind_threads: int = 0) -> None:
        """`blind_threads`: those whose registers the scan could not read."""
        if not self.scans or blind_threads < self.blind_threads:
            self.blind_threads = blind_threads
        lost = scanned[scanned["reach"] >= Reach.INDIRECT]
        before = len(self._addresses)
        if self.scans:
            lost = lost[self._are_candidates(lost["address"], lost["size"])]
        self._addresses, self._sizes = lost["address"].copy(), lost["size"].copy()
        self._quiet = self._quiet + 1 if self.scans and len(lost) == before else 0
        self.scans += 1
        self._last = scanned
        if len(lost) and (self._is_still or self._quiet >= QUIET_SCANS - 1):
            self.ask_kernel = True

    @property
    def has_candidates(self) -> bool:
        """Whether some block was lost in every scan."""
        return len(self._addresses) > 0

    @property
    def are_settled(self) -> bool:
        """Whether further scans would remove nothing."""
        is_quiet = self._is_still or self._quiet >= QUIET_SCANS
        return bool(self.scans) and (is_quiet or not self.has_candidates)

    @property
    def are_over(self) -> bool:
        return self.are_settled or self.scans >= MAX_SCANS

    def result(self) -> Table:
        """The last scan. A block that was lost in some scans only is held."""
        if self._last is None:
            raise ValueError("no scan was added")
        result = self._last.copy()
        lost = result["reach"] >= Reach.INDIRECT
        falsely = lost & ~self._are_candidates(result["address"], result["size"])
        result["reach"][falsely] = Reach.REACHABLE
        return result

    def _are_candidates(self, addresses: U64, sizes: U64) -> _Mask:
        if not len(self._addresses):
            return np.zeros(len(addresses), bool)
        at = np.minimum(self._addresses.searchsorted(addresses), len(self._addresses) - 1)
        same: _Mask = (self._addresses[at] == addresses) & (self._sizes[at] == sizes)
        return same
