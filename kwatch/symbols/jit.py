# SPDX-License-Identifier: Apache-2.0
"""Perf maps by process, opened when an address in memory without a file is asked for."""

from __future__ import annotations

from collections.abc import Callable

from kwatch.errors import KwatchError
from kwatch.snapshot import Frame
from kwatch.symbols.lru import Lru
from kwatch.symbols.mappings import Mapping, read_mappings
from kwatch.symbols.perf_map import PerfMap, map_status, open_perf_map, start_ticks

_PROCESSES = 8


class JitCode:
    """`warn` gets a map's name and a line for people when functions of it are not known."""

    def __init__(self, warn: Callable[[str, str], None]) -> None:
        self._warn = warn
        self._maps: Lru[int, PerfMap] = Lru(_PROCESSES, on_evict=PerfMap.close)

    def frame(self, pid: int, address: int, looked_up: int) -> Frame | None:
        """The frame of a return address, whose call is at `looked_up`."""
        known = self._map(pid)
        if known is None:
            return None
        found, module = known.find(looked_up), f"perf-{pid}.map"
        if known.full:
            line = f"{module} has more functions than are kept; the oldest are shown as addresses"
            self._warn(module, line)
        if found is None:
            return None
        name, offset = found
        return Frame(address, name, offset + address - looked_up, module)

    def close(self) -> None:
        for known in self._maps.drain():
            known.close()

    def _map(self, pid: int) -> PerfMap | None:
        """The map that is there now; the last one if the process is gone."""
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
    return [each for each in mappings if each.executable and each.is_made]
