# SPDX-License-Identifier: Apache-2.0
"""The map of target processes, which the BPF programs read and change."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

from kwatch.kernel import bpf
from kwatch.wire.maps import Target, TargetFlag


class TargetMap:
    """A target's `mm_id` identifies its address space.

    `own`: the pids of kwatch's helper processes, which are never targets.
    """

    def __init__(self, targets: bpf.Map, changed: Callable[[], None]) -> None:
        """`changed`: makes all threads look up again whether they are traced."""
        self.own: set[int] = set()
        self._targets = targets
        self._changed = changed

    def add(self, pid: int, flags: int) -> Target:
        """Starts to trace the process.

        A process that became a target by an exec keeps the mm_id of its exec record.
        """
        key = struct.pack("I", pid)
        fresh = Target((time.monotonic_ns() << 16 ^ pid) & (1 << 64) - 1, flags)
        while not self._targets.add(key, bytes(fresh)):
            known = self.get(pid)
            if known is not None:
                if known.flags != flags:
                    known.flags = flags
                    self._targets.set(key, bytes(known))
                    self._changed()
                return known
        self._changed()
        return fresh

    def get(self, pid: int) -> Target | None:
        """The entry of a target or of one of kwatch's own processes; None for others."""
        found = self._targets.get(struct.pack("I", pid))
        return Target.from_buffer_copy(found) if found is not None else None

    def __contains__(self, pid: int) -> bool:
        return self.get(pid) is not None

    def mm_id(self, pid: int) -> int:
        """0 if the process is not a target, or only shares the memory of one."""
        target = self.get(pid)
        if target is None or target.flags & TargetFlag.HEAP_ONLY:
            return 0
        return int(target.mm_id)

    def owner(self, pid: int) -> int:
        """The process whose memory a target shares; 0 if it has its own."""
        target = self.get(pid)
        return target.owner if target is not None else 0

    def remove(self, pid: int, mm_id: int) -> bool:
        """Stops tracing the process; false if it was not a target.

        A target that has reused the pid stays one.
        """
        if not mm_id or self.mm_id(pid) != mm_id:
            return False
        self._delete(pid)
        return True

    def add_own(self, pid: int) -> None:
        """Adds one of kwatch's own processes: it and its children never become targets."""
        self.own.add(pid)
        self.add(pid, TargetFlag.OWN | TargetFlag.INHERIT)

    def remove_own(self, pid: int) -> None:
        """Removes one of kwatch's own processes that is ending; its pid may be reused."""
        self.own.discard(pid)
        self._delete(pid)

    def _delete(self, pid: int) -> None:
        self._targets.delete(struct.pack("I", pid))
        self._changed()
