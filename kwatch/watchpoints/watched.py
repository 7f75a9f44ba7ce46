# SPDX-License-Identifier: Apache-2.0
"""What a watchpoint covers at a time, and what decides that."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from kwatch.kernel.breakpoints import Breakpoint
from kwatch.processes.process import Process
from kwatch.symbols.stack import Stack
from kwatch.wire.events import Batch


class Watched(NamedTuple):
    """Hits of the same `group` are summed up together.

    Of a heap block: the `size` that the program asked for, the id of the `stack` that has
    allocated it, and when that was, `since_ns`; else 0. `is_unsure`: events of the heap may have
    been lost since then, so the memory may be another block's.
    """

    breakpoint: Breakpoint
    group: int
    size: int = 0
    stack: int = 0
    since_ns: int = 0
    is_unsure: bool = False


class Watch(Protocol):
    """Moves a watchpoint to where it belongs."""

    def arm(self, pid: int, mm_id: int) -> bool:
        """Sets it if that is possible now; returns whether it is set. Raises KwatchError.

        `mm_id` identifies the program that the process runs.
        """

    def watched_at(self, time_ns: int) -> Watched | None:
        """None if a hit at that time does not count."""

    def on_batch(self, source: str, batch: Batch) -> None: ...

    def on_stack(self, process: Process, identity: int, stack: Stack) -> None: ...
