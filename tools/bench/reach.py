# SPDX-License-Identifier: Apache-2.0
"""What a search of a heap costs: the CPU time of scan, walk and graph, and kwatch's memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

from harness.programs import SOURCES
from harness.target import Target

from bench.quiet import Quiet
from bench.rows import Row
from bench.settings import Settings

_HEAP = Path(__file__).with_name("heap.c")
_SCANNER = Path(__file__).with_name("scanner.py")

#: The blocks as a part of `live_blocks`, their mean size, and the pointers in each; 0 for a list.
_SHAPES = {
    "512 bytes, 1 pointer": (1.0, 512, 1),
    "128 bytes, 3 pointers": (1.0, 128, 3),
    "2,600 bytes, 4 pointers": (0.4, 2600, 4),
    "a list of 64 bytes": (1.0, 64, 0),
}
_SECONDS_PER_BLOCK, _SECONDS_PER_BYTE = 0.5e-6, 0.4e-9
_SECONDS_OF_WALK_PER_BLOCK, _SECONDS_OF_GRAPH_PER_BLOCK = 0.5e-6, 1e-6
_MAX_BYTES_PER_BLOCK, _MAX_BYTES_OF_BUFFERS = 100, 20e6


def measure(settings: Settings, directory: Path) -> Iterable[Row]:
    for shape, (part, mean, pointers) in _SHAPES.items():
        blocks = int(settings.live_blocks * part)
        with _heap(directory, blocks, mean, pointers) as target:
            found = _scanned(target)
        if found["reachable"] != blocks + 1:  # the table
            raise RuntimeError(f"{shape}: {found['reachable']} of {blocks} blocks are reachable")
        name = f"{blocks:,} blocks, {shape}"
        limit = blocks * _SECONDS_PER_BLOCK + found["read_bytes"] * _SECONDS_PER_BYTE
        read = f"{found['read_bytes'] / 1e6:,.0f} MB, {found['pointers']:,} pointers"
        yield Row("reach", f"{name}: scan", found["scan_s"], "s", limit, note=read)
        limit = blocks * _SECONDS_OF_WALK_PER_BLOCK
        walked = f"{found['walked']:,} blocks found"
        yield Row("reach", f"{name}: walk", found["walk_s"], "s", limit, note=walked)
        limit = blocks * _SECONDS_OF_GRAPH_PER_BLOCK
        yield Row("reach", f"{name}: of that graph", found["graph_s"], "s", limit)
        memory = (found["peak_bytes"] - _MAX_BYTES_OF_BUFFERS) / blocks
        peak = f"{found['peak_bytes'] / 1e6:.0f} MB, of which 20 MB do not grow"
        measure = f"{name}: peak per block"
        yield Row("reach", measure, memory, "bytes", _MAX_BYTES_PER_BLOCK, note=peak)


@contextmanager
def _heap(directory: Path, *arguments: int) -> Iterable[Target]:
    binary = directory / "heap"
    if not binary.exists():
        flags = ("-O1", "-g", f"-I{SOURCES}")
        subprocess.run(["gcc", *flags, "-o", str(binary), str(_HEAP)], check=True)
    target = Target([binary, *map(str, arguments)])
    try:
        yield target
    finally:
        target.kill()


def _scanned(target: Target) -> dict[str, float]:
    Quiet.wait()
    file = f"/proc/{target.pid}/fd/{target.answers['blocks_file']}"
    command = [sys.executable, str(_SCANNER), str(target.pid), file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the scan failed: {done.stderr}")
    return json.loads(done.stdout)
