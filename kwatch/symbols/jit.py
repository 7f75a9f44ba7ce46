# SPDX-License-Identifier: Apache-2.0
"""The perf maps of processes, opened when a stack leads through generated code."""

from __future__ import annotations

import time
from collections.abc import Callable

from kwatch.errors import KwatchError
from kwatch.procfs.mappings import Mapping, read_mappings
from kwatch.symbols.perf_map import PerfMap, map_status, open_perf_map, start_ticks
from kwatch.symbols.stack import Stack
from kwatch.system.lru import Lru

_MAX_MAPS = 8
_MAX_PROCESSES = 1024  # whose last search is remembered
_LOOK_S = 0.05  # between two searches for the map of a process; most processes have none


class JitCode:
    """`warn` gets the name of a map and a line for people when functions are missing from it."""

    def __init__(self, warn: Callable[[str, str], None]) -> None:
        self._warn = warn
        self._maps: Lru[int, PerfMap] = Lru(_MAX_MAPS, on_evict=PerfMap.close)
        self._looked: Lru[int, float] = Lru(_MAX_PROCESSES)

    def name(self, stack: Stack) -> None:
        """Names the return addresses of a stack that are in generated code."""
        known = self._map(stack.pid)
        if known is None:
            return
        module = f"perf-{stack.pid}.map"
        for address in stack.addresses:
            found = known.find(address.looked_up) if address.is_generated else None
            if found is not None:
                name, offset = found
                stack.generated[address] = address.frame(offset, module, name)
        if known.full:
            line = f"{module} has more functions than are kept; the oldest are shown as addresses"
            self._warn(module, line)

    def close(self) -> None:
        for known in self._maps.drain():
            known.close()

    def _map(self, pid: int) -> PerfMap | None:
        """The map as of the last search; after the exit of the process, the last one found."""
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
    """The executable mappings of a process that contain generated code."""
    try:
        mappings = read_mappings(pid)
    except KwatchError:
        return []
    return [each for each in mappings if each.executable and each.is_generated]
