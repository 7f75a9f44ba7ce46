# SPDX-License-Identifier: Apache-2.0
"""Perf maps by process, opened when an address in memory without a file is asked for."""

from __future__ import annotations

from kwatch.errors import KwatchError
from kwatch.snapshot import Frame
from kwatch.symbols.lru import Lru
from kwatch.symbols.mappings import Mapping, read_mappings
from kwatch.symbols.perf_map import PerfMap, map_status, open_perf_map

_PROCESSES = 8


class JitCode:
    def __init__(self) -> None:
        self._maps: Lru[int, PerfMap] = Lru(_PROCESSES, on_evict=PerfMap.close)

    def frame(self, pid: int, address: int, looked_up: int) -> Frame | None:
        """The frame of a return address, whose call is at `looked_up`."""
        known = self._map(pid)
        found = known.find(looked_up) if known is not None else None
        if known is None or found is None:
            return None
        name, offset = found
        return Frame(address, name, offset + address - looked_up, f"perf-{pid}.map")

    def close(self) -> None:
        for known in self._maps.drain():
            known.close()

    def _map(self, pid: int) -> PerfMap | None:
        """The map that is there now; the last one if the process is gone."""
        known, status = self._maps.get(pid), map_status(pid)
        if known is not None and (status is None or known.same_file(status)):
            return known
        fresh = open_perf_map(pid) if status is not None else None
        if known is not None:
            self._maps.remove(pid).close()
        if fresh is not None:
            self._maps.put(pid, fresh)
        return fresh


def is_made_by_program(mapping: Mapping) -> bool:
    """Whether the memory is none of a file's: anonymous, or of a memfd."""
    if mapping.inode:
        return mapping.path.startswith("/memfd:")
    return not mapping.path or mapping.path.startswith(("//anon", "[anon", "[heap", "[stack"))


def executable_memory(pid: int) -> list[Mapping]:
    """What a process can execute now and what no file holds."""
    try:
        mappings = read_mappings(pid)
    except KwatchError:
        return []
    return [each for each in mappings if each.executable and is_made_by_program(each)]
