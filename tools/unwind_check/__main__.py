# SPDX-License-Identifier: Apache-2.0
"""Compares kwatch's stacks with glibc's backtrace(), call by call, in programs that are not ours.

    sudo .venv/bin/python tools/unwind_check [--symbols] [NAME ...]

Each program runs with a malloc that records where it was called from (record.c) under a kwatch
whose events are kept. An event is paired with the record of its thread between whose times it
lies. A stack is exact if all its frames are equal; truncated if it says so and the frames that it
has are equal; further if backtrace() ended at code without unwind information and kwatch went on by
the frame pointer; else wrong. The exit status is 1 if a stack is wrong or lost, if more than 0.5 %
of a program's are truncated, if a program fails, and if nothing was compared.

--symbols: then tools/symbols_check names every distinct frame.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from programs import Checked, programs
from result import KINDS, Result, faults
from tabulate import tabulate

from kwatch.commands.watch import loop
from kwatch.commands.watch.command import program_config
from kwatch.elf.elf import Elf
from kwatch.kernel.privileges import raise_descriptor_limit
from kwatch.model.frame import Ending
from kwatch.model.options import WatchOptions
from kwatch.programs.loader import Loader
from kwatch.session.session import Session
from kwatch.system.signals import Signals
from kwatch.targets.launch import Launched
from kwatch.wire import events
from kwatch.wire.events import Batch, EventType

_WHOLE = (Ending.COMPLETE, Ending.FINISHED, Ending.FRAME_POINTERS)
_HEADERS = ("program", *KINDS, "distinct", "depth", "truncated by", "status")
_RECORDS = "UNWIND_CHECK"  # the folder that record.c writes into, if this names one
_PATIENCE_S = 60.0  # for a table, as a report would have before it is made
_SHOWN = 3
_HEAD = 6


class Recorder(Session):
    """Keeps every allocation and every stack, and names nothing."""

    allocations: ClassVar[list[Batch]] = []
    stacks: ClassVar[dict[int, tuple[list[int], Ending]]] = {}
    frames: ClassVar[set[tuple[str, int]]] = set()  # file and offset, of all programs

    def _add_heap(self, batch: Batch) -> None:
        super()._add_heap(batch)
        self.allocations.append(batch[batch["type"] == EventType.ALLOC].copy())

    def _read_stack(self, data: bytes) -> None:
        self._look_for_code()
        assert self._stacks is not None
        raw = self._stacks.assembled(data)
        process = self.process_table.get(raw.pid) if raw is not None else None
        if raw is None or process is None:
            return
        self._stacks.await_tables(_PATIENCE_S)
        addresses, _ = self.stacks[raw.stack] = self._stacks.addresses(process.space, raw)
        for address in addresses:
            mapping = process.space.find(address - 1)
            if mapping is not None and mapping.inode:
                self.frames.add((mapping.path, address - 1 - mapping.start + mapping.offset))


class Recorded(Launched):
    """The command alone is recorded, not the processes of kwatch."""

    folder = ""

    def __init__(self, command: tuple[str, ...]) -> None:
        os.environ[_RECORDS] = self.folder
        super().__init__(command)
        del os.environ[_RECORDS]


def _trace(program: Checked, directory: Path, library: Path, signals: Signals) -> tuple[Batch, int]:
    """Runs it: the allocations in order, and what its kwatch returned."""
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
    Recorded.folder = str(directory)
    os.environ["LD_PRELOAD"] = str(library)  # so that kwatch knows of it beforehand
    try:
        with closing(Loader(program_config(options))) as loader:
            watched = loop.Watch(options, loader, signals)
        status = watched.run()
    finally:
        del os.environ["LD_PRELOAD"]
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


def _compare(allocations: Batch, directory: Path, status: int) -> Result:
    result = Result(status=status)
    by_thread = {
        int(tid): allocations[allocations["tid"] == tid] for tid in np.unique(allocations["tid"])
    }
    for path in directory.iterdir():
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
    elif len(known) > len(true):
        kind = "further" if known[: len(true)] == true else "wrong"
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
    counts = (result.counts[kind] for kind in KINDS)
    return [name, *counts, len(result.distinct), depth, why, result.status or ""]


def _named(path: Path) -> int:
    """Writes the distinct frames into a file, for symbols_check, whose exit status this is."""
    lines = []
    for file in sorted({file for file, _ in Recorder.frames}):
        with Elf.open(file) as elf:
            for offset in sorted(at for name, at in Recorder.frames if name == file):
                for segment in elf.segments:
                    if segment.executable and 0 <= offset - segment.offset < segment.filesz:
                        lines.append(f"{offset - segment.offset + segment.vaddr:#x} {file}\n")
    path.write_text("".join(lines))
    tool = Path(__file__).parents[1] / "symbols_check"
    return subprocess.run([sys.executable, tool, "--frames", path], check=False).returncode


def _check(names: list[str], directory: Path) -> tuple[list[list[object]], int, list[str]]:
    """The rows of the table, how many stacks were compared, and what was wrong."""
    signals = Signals()
    rows, compared, wrong = [], 0, []
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
        records = directory / "records"
        records.mkdir(exist_ok=True)
        allocations, status = _trace(program, records, library, signals)
        result = _compare(allocations, records, status)
        rows.append(_row(program.name, result))
        compared += result.compared
        wrong += [f"{program.name}: {why}" for why in (*faults(program, result), *result.examples)]
        print(rows[-1], file=sys.stderr, flush=True)
    return rows, compared, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--symbols", action="store_true", help="then check the frames' names")
    parser.add_argument("names", nargs="*", metavar="NAME", help="programs; all by default")
    options = parser.parse_args()
    raise_descriptor_limit()
    loop.Session = Recorder  # type: ignore[misc]
    loop.Launched = Recorded  # type: ignore[misc]
    with tempfile.TemporaryDirectory(prefix="unwind_check") as folder:
        rows, compared, wrong = _check(options.names, Path(folder))
        print(tabulate(rows, _HEADERS))
        print("\n".join([*wrong, f"{compared} stacks were compared"]))
        named = _named(Path(folder) / "frames") if options.symbols else 0
    return 1 if wrong or named or not compared else 0


if __name__ == "__main__":
    sys.exit(main())
