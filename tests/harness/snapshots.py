# SPDX-License-Identifier: Apache-2.0
"""Snapshots of one process, and the text that the tables make of them."""

from __future__ import annotations

import io
import re
import unicodedata
from dataclasses import replace

from kwatch.model.frame import Frame
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import (
    HeapStats,
    Lost,
    MemoryStats,
    Snapshot,
    StackStats,
    SyscallStats,
    SyscallSummary,
)
from kwatch.sinks.table.table import Tables

RUNTIME = (Frame(3, "__libc_start_call_main"), Frame(4, "__libc_start_main@@GLIBC_2.34"))
INSERT = Frame(1, "insert", 8, "/bin/app", "/src/cache.c", 212)
MAIN = Frame(2, "main", 4, "/bin/app", "main.c", 40)

IDLE = Snapshot(
    kind="snapshot",
    time="2026-01-31T12:00:05.000Z",
    elapsed_s=5.0,
    process=ProcessFacts(1234, 1.0, "nginx", "/usr/sbin/nginx"),
    heap=HeapStats(),
    memory=MemoryStats(),
    syscalls=SyscallSummary(),
    lost=Lost(),
    verdict=None,
)


def stack(identity: int, size: int, *frames: Frame) -> StackStats:
    return StackStats(identity, size, 1, 2.5, (16,), (size,), frames)


def heap(*stacks: StackStats, younger: int = 0) -> Snapshot:
    """With one block of each stack, and one more of `younger` bytes."""
    size = sum(one.bytes for one in stacks) + younger
    blocks = len(stacks) + (younger > 0)
    return replace(IDLE, heap=HeapStats(size, blocks, 1200, size, 7, 0, stacks=stacks))


def syscalls(*by_name: SyscallStats) -> Snapshot:
    calls, errors = (sum(getattr(one, key) for one in by_name) for key in ("calls", "errors"))
    return replace(IDLE, syscalls=SyscallSummary(calls, errors, by_name))


def lines_of(
    *snapshots: Snapshot,
    encoding: str = "utf-8",
    color: bool = False,
    full_stacks: bool = False,
    width: int | None = 80,
) -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    sink = Tables(stream, color=color, full_stacks=full_stacks, width=lambda _: width)
    for snapshot in snapshots:
        sink.write(snapshot)
    stream.seek(0)
    return stream.read().splitlines()


def rows_of(lines: list[str]) -> list[list[str]]:
    """The cells of each line of a table."""
    return [re.split(r" {2,}", line.strip()) for line in lines]


def columns(line: str) -> int:
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in line)
    return len(line) + wide
