# SPDX-License-Identifier: Apache-2.0
"""`python scanner.py PID FILE`: scans a heap.c, and prints what that costs as one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from kwatch.reach.classify import classify
from kwatch.reach.heaps.heap_walk import walk_heap
from kwatch.reach.layout import layout
from kwatch.reach.memory import TargetMemory
from kwatch.reach.pages import PageMap
from kwatch.reach.regions import read_regions
from kwatch.reach.scan import Scan, scan
from kwatch.system.mallopt import keep_freed_memory

_ROUNDS = 3


def _peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError("VmHWM")


def _scan(pid: int, known: np.ndarray) -> tuple[float, Scan]:
    with closing(TargetMemory(pid)) as memory, closing(PageMap(pid)) as pages:
        regions = read_regions(pid)
        started = time.process_time()
        of = layout(None, (known[0], known[1]))
        found = scan(memory, pages, regions, of, ())
        return time.process_time() - started, found


def _walk(pid: int) -> tuple[float, int]:
    """Seconds, and the number of blocks that the walk found."""
    with closing(TargetMemory(pid)) as memory, closing(PageMap(pid)) as pages:
        regions = read_regions(pid)
        started = time.process_time()
        walk = walk_heap(memory, pages, regions)
        return time.process_time() - started, 0 if walk is None else len(walk.starts)


def main(pid: int, file: str) -> None:
    keep_freed_memory()
    _scan(pid, np.array([[4096], [8]], np.uint64))  # loads what it needs
    before = _peak_bytes()
    known = np.sort(np.fromfile(file, [("address", "u8"), ("size", "u8")]), order="address")
    columns = np.stack((known["address"], known["size"]))
    count = len(known)
    del known
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    scans = []
    for _ in range(_ROUNDS):
        found = None
        seconds, found = _scan(pid, columns)
        scans.append(seconds)
    peak = _peak_bytes()
    graphs = []
    for _ in range(_ROUNDS):
        started = time.process_time()
        classify(found.graph, found.roots.codes)
        graphs.append(time.process_time() - started)
    walks = [_walk(pid) for _ in range(_ROUNDS)]
    result = {
        "blocks": count,
        "read_bytes": found.read_bytes,
        "pointers": len(found.graph.codes),
        "reachable": int(np.count_nonzero(found.classes == 0)),
        "scan_s": min(scans),
        "graph_s": min(graphs),
        "walk_s": min(seconds for seconds, _ in walks),
        "walked": walks[0][1],
        "peak_bytes": peak - before,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
