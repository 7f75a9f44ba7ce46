# SPDX-License-Identifier: Apache-2.0
"""Compares kwatch's stacks with glibc's backtrace(), call by call, in public programs.

    sudo .venv/bin/python tools/unwind_check [--symbols] [NAME ...]

Each program runs under kwatch with a malloc that records its callers (record.c). Each event is
paired with the record of the same thread and time. A stack is

    exact      if all frames are equal;
    truncated  if kwatch marks it so and the frames that it has are equal;
    further    if backtrace() stopped at code without unwind information and kwatch went on by the
               frame pointer;
    wrong      otherwise.

The exit status is 1 if a stack is wrong or lost, if more than 0.5 % of a program's stacks are
truncated, if a program fails, or if nothing was compared.

With --symbols, tools/symbols_check then checks the names of all distinct frames.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from programs import Checked, programs
from result import KINDS, Result, faults
from tabulate import tabulate

from kwatch.commands.startup import program_config
from kwatch.elf.elf import Elf
from kwatch.model.frame import Ending
from kwatch.model.options import TraceOptions
from kwatch.processes.process import Process
from kwatch.programs.loader import Loader, attach_methods_here
from kwatch.programs.source import AttachMethods
from kwatch.programs.sources import HEAP
from kwatch.session.event_loop import EventLoop
from kwatch.session.live import LiveSession
from kwatch.symbols.stack import Stack
from kwatch.system.signals import Signals
from kwatch.wire import events
from kwatch.wire.events import Batch, EventType

_WHOLE = (Ending.COMPLETE, Ending.FINISHED, Ending.FRAME_POINTERS)
_HEADERS = ("program", *KINDS, "distinct", "depth", "truncated by", "status")
_RECORDS = "UNWIND_CHECK"  # names the folder that record.c writes into
_PATIENCE_S = 60.0  # for unwind tables that stacks wait for
_SHOWN = 3
_HEAD = 6


class Recorder:
    """Observes a session and keeps every allocation and the addresses of every stack."""

    def __init__(self) -> None:
        self.allocations: list[Batch] = []
        self.stacks: dict[int, tuple[list[int], Ending]] = {}
        self.frames: set[tuple[str, int]] = set()  # file and offset

    def on_batch(self, source: str, batch: Batch) -> None:
        if source == HEAP:
            self.allocations.append(batch[batch["type"] == EventType.ALLOC].copy())

    def on_stack(self, process: Process, identity: int, stack: Stack) -> None:
        addresses = [each.address for each in stack.addresses]
        self.stacks[identity] = addresses, stack.ending
        for each in stack.addresses:
            if each.mapping.inode:
                offset = each.address - 1 - each.mapping.start + each.mapping.offset
                self.frames.add((each.mapping.path, offset))


def _trace(
    program: Checked, directory: Path, library: Path, signals: Signals
) -> tuple[Recorder, int]:
    """Runs a program; returns what was recorded, and the exit status."""
    options = TraceOptions(
        command=("env", f"{_RECORDS}={directory}", *shlex.split(program.command)),
        follow=True,
        syscalls=False,
        buffer=1 << 26,
    )
    recorder = Recorder()
    beside = subprocess.Popen(["sh", "-c", program.beside]) if program.beside else None
    os.environ["LD_PRELOAD"] = str(library)  # so that kwatch loads its table in advance
    try:
        with (
            closing(Loader(program_config(options), _every_event())) as loader,
            closing(LiveSession(options, loader, signals, _say, observers=[recorder])) as live,
        ):
            live.attach()
            status = _run(live, signals)
    finally:
        del os.environ["LD_PRELOAD"]
    if beside is not None:
        beside.wait(60)
    return recorder, status


def _every_event() -> AttachMethods:
    """Each allocation has an event, also of blocks that are freed soon."""
    return replace(attach_methods_here(), young_blocks=False)


def _run(live: LiveSession, signals: Signals) -> int:
    loop = EventLoop(live, signals, _say)
    loop.run(lambda: math.inf)
    live.finish(loop.patience("reading the remaining events"))
    live.session.read_stacks(_PATIENCE_S)
    return loop.status()


def _say(line: str) -> None:
    print(line, file=sys.stderr)


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
            break  # the call never finished
        found.append((tid, before, after, address, size, frames))
        at += _HEAD + count
    return found


def _compare(recorder: Recorder, directory: Path, status: int) -> Result:
    result = Result(status=status)
    allocations = np.concatenate([np.empty(0, events.HEAP), *recorder.allocations])
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
                _judge(result, recorder, int(event["stack"]), truth)
        path.unlink()
    return result


def _judge(result: Result, recorder: Recorder, stack: int, truth: list[int]) -> None:
    """The first frames need not be equal: both are in the recording malloc, at two places."""
    addresses, ending = recorder.stacks.get(stack, ([], Ending.LOST))
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


def _named(path: Path, frames: set[tuple[str, int]]) -> int:
    """Runs symbols_check on the distinct frames and returns its exit status."""
    lines = []
    for file in sorted({file for file, _ in frames}):
        with Elf.open(file) as elf:
            for offset in sorted(at for name, at in frames if name == file):
                for segment in elf.segments:
                    if segment.executable and 0 <= offset - segment.offset < segment.filesz:
                        lines.append(f"{offset - segment.offset + segment.vaddr:#x} {file}\n")
    path.write_text("".join(lines))
    tool = Path(__file__).parents[1] / "symbols_check"
    return subprocess.run([sys.executable, tool, "--frames", path], check=False).returncode


def _check(
    names: list[str], directory: Path, frames: set[tuple[str, int]]
) -> tuple[list[list[object]], int, list[str]]:
    """Returns the rows of the table, the number of compared stacks and the faults.

    Adds the distinct frames of all programs to `frames`.
    """
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
        recorder, status = _trace(program, records, library, signals)
        frames |= recorder.frames
        result = _compare(recorder, records, status)
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
    with tempfile.TemporaryDirectory(prefix="unwind_check") as folder:
        frames: set[tuple[str, int]] = set()
        rows, compared, wrong = _check(options.names, Path(folder), frames)
        print(tabulate(rows, _HEADERS))
        print("\n".join([*wrong, f"{compared} stacks were compared"]))
        named = _named(Path(folder) / "frames", frames) if options.symbols else 0
    return 1 if wrong or named or not compared else 0


if __name__ == "__main__":
    sys.exit(main())
