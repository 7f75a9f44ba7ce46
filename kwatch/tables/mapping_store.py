# SPDX-License-Identifier: Apache-2.0
"""The mappings of each process and their unwind tables in the kernel: bpf/unwind_tables.h."""

from __future__ import annotations

import errno
import itertools
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kwatch.kernel import bpf
from kwatch.kernel.grace_period import GracePeriods, Retired
from kwatch.tables.free_ranges import FreeRanges
from kwatch.wire.maps import CodeMapping, Space

CODE_MAPPING = np.dtype(CodeMapping)

Code = npt.NDArray[np.void]


@dataclass(slots=True)
class _Row:
    """A list of mappings in the kernel, which processes with equal mappings share."""

    first: int
    count: int
    generation: int
    users: int = 0


class MappingStore:
    """Never overwrites a list that a program may be reading: an unused list is retired first."""

    def __init__(self, spaces: bpf.Map, mappings: bpf.Map, periods: GracePeriods) -> None:
        self._spaces = spaces
        self._mappings = mappings
        self._ranges = FreeRanges(mappings.max_entries)
        self._rows: dict[bytes, _Row] = {}
        self._of: dict[int, bytes] = {}
        self._retired: Retired[tuple[int, int]] = Retired(periods)
        self._generations = itertools.count(1)

    def publish(self, pid: int, mm_id: int, epoch: int, unmaps: int, code: Code) -> bool:
        """Publishes the mappings of a process, a sorted array of CODE_MAPPING.

        The programs ignore them if the process's mm_id is no longer `mm_id`. False if there is no
        room.
        """
        content = code.tobytes()
        row = self._rows.get(content)
        if row is None:
            first = self._ranges.take(len(code)) if len(code) else 0
            if first is None:
                return False
            row = self._rows[content] = _Row(first, len(code), next(self._generations))
            self._mappings.set_many(first, content)
        row.users += 1
        position = row.first | row.count << 32
        space = Space(mm_id, row.generation, epoch, unmaps, position)
        try:
            self._spaces.set(struct.pack("I", pid), bytes(space))
        except OSError as error:
            self._drop(content)
            if error.errno in (errno.E2BIG, errno.ENOMEM):
                return False
            raise
        self._leave(pid)
        self._of[pid] = content
        return True

    def renew(self, pid: int) -> None:
        """Invalidates the stacks of the process that the programs have cached."""
        content = self._of.get(pid)
        key = struct.pack("I", pid)
        value = self._spaces.get(key)
        if content is not None and value is not None:
            row = self._rows[content]
            space = Space.from_buffer_copy(value)
            space.generation = row.generation = next(self._generations)
            self._spaces.set(key, bytes(space))

    def forget(self, pid: int) -> None:
        """Removes a process that is no longer traced."""
        self._leave(pid)
        self._spaces.delete(struct.pack("I", pid))

    def reclaim(self) -> None:
        """Frees lists that no program can be reading any more."""
        for first, count in self._retired.released():
            self._ranges.give_back(first, count)

    def _leave(self, pid: int) -> None:
        content = self._of.pop(pid, None)
        if content is not None:
            self._drop(content)

    def _drop(self, content: bytes) -> None:
        row = self._rows[content]
        row.users -= 1
        if not row.users:
            del self._rows[content]
            self._retired.add((row.first, row.count))
