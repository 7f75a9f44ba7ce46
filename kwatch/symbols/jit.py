# SPDX-License-Identifier: Apache-2.0
"""Perf maps by process, opened when an address in memory without a file is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable

from kwatch.errors import KwatchError
from kwatch.procfs.mappings import Mapping, read_mappings
from kwatch.symbols.perf_map import PerfMap, map_status, open_perf_map, start_ticks
from kwatch.symbols.stack import Stack
from kwatch.system.lru import Lru

_PROCESSES = 8
_REMEMBERED = 1024
_LOOK_S = 0.05  # between two looks for the map of a process, which most have not


class JitCode:
    """`warn` gets a map's name and a line for people when functions of it are not known."""

    def __init__(self, warn: Callable[[str, str], None]) -> None:
        self._warn = warn
        self._maps: Lru[int, PerfMap] = Lru(_PROCESSES, on_evict=PerfMap.close)
        self._looked: Lru[int, float] = Lru(_REMEMBERED)

    def name(self, stack: Stack) -> None:
        """Names the calls of a stack that lead through what the process has made."""
        known = self._map(stack.pid)
        if known is None:
            return
        module = f"perf-{stack.pid}.map"
        for call in stack.addresses:
            found = known.find(call.looked_up) if call.is_made else None
            if found is not None:
                name, offset = found
                stack.generated[call] = call.frame(offset, module, name)
        if known.full:
            line = f"{module} has more functions than are kept; the oldest are shown as addresses"
            self._warn(module, line)

    def close(self) -> None:
        for known in self._maps.drain():
            known.close()

    def _map(self, pid: int) -> PerfMap | None:
        """The map that was there a moment ago; the last one if the process is gone."""
        now = time.monotonic()
        if now < (self._looked.get(pid) or 0.0) + _LOOK_S:
            return self._maps.get(pid)
        self._looked.put(pid, now)
        known, started = self._maps.get(pid), start_ticks(pid)
        if known is not None and started in (None, known.started):
            status = map_status(pid)
            if status is None or known.same_file(status):
                return known
        fresh = open_perf_map(pid)
        if known is not None:
            self._maps.remove(pid).close()
        if fresh is not None:
            self._maps.put(pid, fresh)
        return fresh


def executable_memory(pid: int) -> list[Mapping]:
    """What a process can execute now and what no file holds."""
    try:
        mappings = read_mappings(pid)
    except KwatchError:
        return []
    return [each for each in mappings if each.executable and each.is_generated]
