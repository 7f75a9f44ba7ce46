# SPDX-License-Identifier: Apache-2.0
"""One watchpoint in one process: sets it, moves it, and removes it."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping

from kwatch.kernel import bpf
from kwatch.kernel.breakpoints import Access, Breakpoint
from kwatch.kernel.privileges import refused
from kwatch.watchpoints.events import WatchEvents, open_events
from kwatch.wire.maps import Watched


class Watchpoint:
    """`stops`: the process is stopped at each hit.

    `current` is where it is set now, since `armed_ns` on the clock of the events; `first_ns` is
    when it was set first.
    """

    def __init__(self, maps: Mapping[str, bpf.Map], program: int, stops: bool = False) -> None:
        self.current: Breakpoint | None = None
        self.armed_ns = 0
        self.first_ns = 0
        self._watched = maps["watched"]
        self._program = program
        self._stops = stops
        self._pid = 0
        self._events: WatchEvents | None = None
        self._counted: int | None = 0  # by events that are closed; None if that is unknown

    @property
    def who(self) -> str:
        """What has an event each: `thread` or `CPU`."""
        return self._events.who if self._events is not None else ""

    def arm(self, pid: int, mm_id: int, watched: Breakpoint) -> None:
        """Sets it in the program that the process runs, which `mm_id` identifies.

        Raises KwatchError, or ProcessLookupError if the process has ended.
        """
        reads_value = watched.access is Access.WRITE
        entry = Watched(mm_id, reads_value, self._stops)
        self._watched.set(struct.pack("I", pid), bytes(entry))
        self._pid = pid
        if self._events is None:
            self._events = open_events(pid, watched, self._program)
        armed_ns = time.monotonic_ns()  # before, so that no hit comes earlier
        try:
            self._events.move(watched)
        except ProcessLookupError:
            raise
        except OSError as error:
            raise refused(f"the watchpoint cannot be set at {watched.address:#x}", error) from error
        self.current, self.armed_ns = watched, armed_ns
        self.first_ns = self.first_ns or armed_ns

    @property
    def ever(self) -> bool:
        """Whether it was set at all."""
        return self.first_ns > 0

    def disarm(self) -> None:
        """Nothing is watched until the next `arm`, which is cheap."""
        if self._events is not None and self.current is not None:
            self._events.disable()
        self.current = None

    def drop(self) -> None:
        """Closes the events: the program that they were set in is gone."""
        self._counted = self._count()
        self.close()
        self._events, self.current = None, None

    def missed(self, recorded: int) -> int:
        """How many hits the kernel has counted that were not recorded; 0 where that is unknown."""
        counted = self._count()
        return max(counted - recorded, 0) if counted is not None else 0

    def _count(self) -> int | None:
        """The hits in all programs that the process has run."""
        now = self._events.count() if self._events is not None else 0
        return now + self._counted if now is not None and self._counted is not None else None

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
        if self._pid:
            self._watched.delete(struct.pack("I", self._pid))
