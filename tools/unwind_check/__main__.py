# SPDX-License-Identifier: Apache-2.0
"""Compares kwatch's stacks with glibc's backtrace(), call by call, in programs that are not ours.

    sudo .venv/bin/python tools/unwind_check [NAME ...]

Each program runs with a malloc that records where it was called from (record.c) under a kwatch
whose events are kept. An event is paired with the record of its thread between whose times it
lies. A stack is exact if all its frames are equal; truncated if it says so and the frames that it
has are equal; else wrong, and the exit status is 1.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from programs import Checked, programs
from tabulate import tabulate

from kwatch import events, watch
from kwatch.commands.watch import program_config
from kwatch.events import Batch, EventType
from kwatch.kernel.loader import Loader
from kwatch.kernel.privileges import raise_descriptor_limit
from kwatch.options import WatchOptions
from kwatch.session import Session
from kwatch.signals import Signals
from kwatch.snapshot import Ending

_WHOLE = (Ending.COMPLETE, Ending.FINISHED, Ending.FRAME_POINTERS)
_KINDS = ("exact", "truncated", "wrong", "lost", "no event")
_HEADERS = ("program", *_KINDS, "stacks", "depth", "truncated by", "status")
_SHOWN = 3
_HEAD = 6


class Recorder(Session):
    """Keeps every allocation and every stack, and names nothing."""

    allocations: ClassVar[list[Batch]] = []
    stacks: ClassVar[dict[int, tuple[list[int], Ending]]] = {}

    def _add_heap(self, batch: Batch) -> None:
        super()._add_heap(batch)
        self.allocations.append(batch[batch["type"] == EventType.ALLOC].copy())

    def _stack_seen(self, data: bytes) -> None:
        assert self._stacks is not None
        raw = self._stacks.whole(data)
        process = self.registry.get(raw.pid) if raw is not None else None
        if raw is not None and process is not None:
            self.stacks[raw.stack] = self._stacks.addresses(process, raw)


@dataclass(slots=True)
class Result:
    """Calls by what became of them; `distinct`: stacks."""

    counts: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    distinct: set[int] = field(default_factory=set)
    depths: list[int] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)


def _trace(program: Checked, directory: Path, library: Path, signals: Signals) -> tuple[Batch, int]:
    """Runs it: the allocations in order, and what its kwatch returned."""
    environment = {"UNWIND_CHECK": str(directory), "LD_PRELOAD": str(library)}
    options = WatchOptions(
        command=tuple(shlex.split(program.command)),
        follow=True,
        syscalls=False,
        buffer=1 << 26,
        json=True,
        output=os.devnull,
        interval_s=3600.0,
    )
    Recorder.allocations, Recorder.stacks = [], {}
    beside = subprocess.Popen(["sh", "-c", program.beside]) if program.beside else None
    os.environ |= environment  # the command inherits it
    try:
        with closing(Loader(program_config(options))) as loader:
            watched = watch.Watch(options, loader, signals)
        status = watched.run()
    finally:
        for name in environment:
            del os.environ[name]
    if beside is not None:
        beside.wait(60)
    return np.concatenate([np.empty(0, events.HEAP), *Recorder.allocations]), status


def _records(path: Path) -> list[tuple[int, int, int, int, int, list[int]]]:
    """(tid, before, after, address, size, frames) of each call."""
    with path.open("rb") as file:
        words = int(np.fromfile(file, np.uint64, 1)[0])
        data = np.fromfile(file, np.uint64, words)
    found, at = [], 0
    while at + _HEAD <= len(data):
        tid, before, after, address, size, count = data[at : at + _HEAD].tolist()
        frames = data[at + _HEAD : at + _HEAD + count].tolist()
        if not count:
            break  # a call that was never finished
        found.append((tid, before, after, address, size, frames))
        at += _HEAD + count
    return found


def _compare(allocations: Batch, directory: Path) -> Result:
    result = Result()
    by_thread = {
        int(tid): allocations[allocations["tid"] == tid] for tid in np.unique(allocations["tid"])
    }
    for path in directory.iterdir():
        if path.name.replace(".", "").isdigit():
            for tid, before, after, address, size, truth in _records(path):
                mine = by_thread.get(tid, allocations[:0])
                at = int(np.searchsorted(mine["time_ns"], np.uint64(before)))
                event = mine[at] if at < len(mine) and mine["time_ns"][at] <= after else None
                if event is None or (event["address"], event["size"]) != (address, size):
                    result.counts["no event"] += 1
                else:
                    _judge(result, int(event["stack"]), truth)
            path.unlink()
    return result


def _judge(result: Result, stack: int, truth: list[int]) -> None:
    """The first frames are both in the recording malloc, at two places of it."""
    addresses, ending = Recorder.stacks.get(stack, ([], Ending.LOST))
    known, true = addresses[1:], truth[1:]
    if not addresses:
        kind = "lost"
    elif ending in _WHOLE:
        kind = "exact" if known == true else "wrong"
    else:
        kind = "truncated" if known == true[: len(known)] else "wrong"
    result.counts[kind] += 1
    if kind == "truncated":
        result.endings[str(ending)] += 1
    if stack not in result.distinct and kind == "wrong" and len(result.examples) < _SHOWN:
        shown = [" ".join(f"{a:x}" for a in frames) for frames in (known, true)]
        result.examples.append(f"{ending}\n  kwatch    {shown[0]}\n  backtrace {shown[1]}")
    result.distinct.add(stack)
    result.depths.append(len(true))


def _row(name: str, result: Result) -> list[object]:
    depth = f"{int(np.median(result.depths))}/{max(result.depths)}" if result.depths else ""
    why = ", ".join(f"{ending} {count}" for ending, count in result.endings.items())
    return [name, *(result.counts[kind] for kind in _KINDS), len(result.distinct), depth, why]


def main(names: list[str]) -> int:
    raise_descriptor_limit()
    signals = Signals()
    watch.Session = Recorder  # type: ignore[misc]
    rows, examples = [], []
    with tempfile.TemporaryDirectory(prefix="unwind_check") as folder:
        directory = Path(folder)
        library = directory / "record.so"
        source = Path(__file__).with_name("record.c")
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
        for program in programs(directory):
            if names and not any(name in program.name for name in names):
                continue
            if program.is_missing:
                rows.append([program.name, f"{program.needs} is not installed"])
                continue
            if program.build:
                subprocess.run(shlex.split(program.build), check=True)
            allocations, status = _trace(program, directory, library, signals)
            result = _compare(allocations, directory)
            rows.append([*_row(program.name, result), status or ""])
            examples += [f"{program.name}: {example}" for example in result.examples]
            print(rows[-1], file=sys.stderr, flush=True)
    headers = [
        "program",
        "exact",
        "truncated",
        "wrong",
        "lost",
        "no event",
        "stacks",
        "depth",
        "truncated by",
        "status",
    ]
    print(tabulate(rows, headers))
    print("\n".join(examples))
    return 1 if any(example for example in examples) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
