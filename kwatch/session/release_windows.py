# SPDX-License-Identifier: Apache-2.0
"""When frees carry their stacks: for a while after the attach, then for a tenth of the time."""

from __future__ import annotations

import math
import struct
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from kwatch.aggregate.heap import HeapAccount
from kwatch.aggregate.outstanding import largest_stacks
from kwatch.kernel import bpf
from kwatch.processes.process import Process
from kwatch.wire.maps import RELEASE_SWITCHES

_FIRST_S = 2.0  # the first window of a process
_WINDOW_S = 1.0  # a later one
_EVERY_S = 10.0  # from the beginning of one to that of the next
_LOOK_S = 0.1  # between looks for new processes and due windows
_STACKS = 32  # with the most outstanding bytes: those whose releases are to be known
_ENOUGH = 64  # releases of a stack
_MAX_WINDOWS = 30  # in which a stack had no, or not enough, releases
_MAX_PROCESSES = 64  # with a window at a time


@dataclass(slots=True)
class _Windows:
    """Those of one process. `seen`: windows by wanted stack.

    `until`: the end of the open one; 0: none. `closed_at`: until then the account learns.
    """

    process: Process
    next: float = 0.0
    until: float = 0.0
    closed_at: float = math.inf
    seen: Counter[int] = field(default_factory=Counter)


class ReleaseWindows:
    """Switches the stacks of frees on and off, by process. `switches`: the BPF map.

    `delivered_ns` returns up to when all events have been delivered. `is_always`: the first window
    has no end.

    No window opens while the releases of all stacks with much outstanding memory are known, or have
    not come in many windows.
    """

    def __init__(
        self,
        switches: bpf.Map,
        processes: Collection[Process],
        delivered_ns: Callable[[], int],
        is_always: bool = False,
    ) -> None:
        self._delivered_ns = delivered_ns
        self._first_s = math.inf if is_always else _FIRST_S
        self._switches = switches
        self._processes = processes
        self._windows: dict[int, _Windows] = {}  # by slot
        self._on: Counter[int] = Counter()  # open windows by index in the map
        self._next = 0.0

    @property
    def seconds_left(self) -> float:
        """Until `update` has something to do; infinite without processes."""
        if not self._processes and not self._windows:
            return math.inf
        return max(self._next - time.monotonic(), 0.0)

    def update(self) -> None:
        """Opens and closes what is due; cheap otherwise."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _LOOK_S
        running = {process.slot: process for process in self._processes}
        for slot, windows in list(self._windows.items()):
            if running.get(slot) is not windows.process:
                self._close(windows)
                del self._windows[slot]
        for slot, process in running.items():
            if process.heap is not None and not process.shares:
                windows = self._windows.setdefault(slot, _Windows(process))
                self._update(windows, process.heap, now)

    def _update(self, windows: _Windows, heap: HeapAccount, now: float) -> None:
        if windows.until and now >= windows.until:
            self._close(windows)
        if not windows.until and self._delivered_ns() > windows.closed_at * 1e9:
            heap.learns_releases = False
        if windows.until or now < windows.next or len(self._on) >= _MAX_PROCESSES:
            return
        is_first = not windows.next
        windows.next = now + _EVERY_S
        if is_first or self._is_wanted(windows, heap):
            windows.until = now + (self._first_s if is_first else _WINDOW_S)
            self._switch(windows.process, 1)
            heap.learns_releases = True

    def _is_wanted(self, windows: _Windows, heap: HeapAccount) -> bool:
        """Whether some stack with much outstanding memory needs more releases."""
        known = heap.releases.by_alloc()
        wanted = [
            stack
            for stack in largest_stacks(heap.live_blocks(), _STACKS)
            if known.get(stack, 0) < _ENOUGH and windows.seen[stack] < _MAX_WINDOWS
        ]
        windows.seen.update(wanted)
        return bool(wanted)

    def _close(self, windows: _Windows) -> None:
        if windows.until:
            windows.until = 0.0
            windows.closed_at = time.monotonic()
            self._switch(windows.process, -1)

    def _switch(self, process: Process, change: int) -> None:
        index = process.pid % RELEASE_SWITCHES
        self._on[index] += change
        self._switches.set(struct.pack("I", index), bytes([self._on[index] > 0]))
        if not self._on[index]:
            del self._on[index]
