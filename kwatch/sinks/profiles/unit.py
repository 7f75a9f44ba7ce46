# SPDX-License-Identifier: Apache-2.0
"""What every format needs: the profile of a process, its measures, the names of frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath

from kwatch.model.frame import Frame
from kwatch.model.snapshot import HeapProfile, Snapshot, StackTotals
from kwatch.units import counted

#: Stands for a stack without frames.
LOST = Frame(0, "[stack lost]")


@dataclass(frozen=True, slots=True)
class ProcessProfile:
    """The profile of one process. `time_ns` is since the epoch; `lost` counts events."""

    name: str
    pid: int
    profile: HeapProfile
    time_ns: int
    duration_ns: int
    lost: int = 0


#: Returns the contents of a file.
Format = Callable[[Sequence[ProcessProfile]], bytes]


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of each stack. `name` and `unit` are those of Go's heap profile."""

    name: str
    unit: str
    title: str
    of: Callable[[StackTotals], int]


MEASURES = (
    Measure("alloc_objects", "count", "allocated blocks", lambda stack: stack.alloc_blocks),
    Measure("alloc_space", "bytes", "allocated bytes", lambda stack: stack.alloc_bytes),
    Measure("inuse_objects", "count", "outstanding blocks", lambda stack: stack.live_blocks),
    Measure("inuse_space", "bytes", "outstanding bytes", lambda stack: stack.live_bytes),
)

#: Shows leaks, so it comes first.
INUSE_SPACE = MEASURES[3]
ALLOC_SPACE = MEASURES[1]


def unit_of(snapshot: Snapshot) -> ProcessProfile:
    """`snapshot` must have a profile."""
    assert snapshot.profile is not None
    return ProcessProfile(
        name=f"{_clean(snapshot.process.comm)}[{snapshot.process.pid}]",
        pid=snapshot.process.pid,
        profile=snapshot.profile,
        time_ns=int(datetime.fromisoformat(snapshot.time).timestamp() * 1000) * 1_000_000,
        duration_ns=int(snapshot.elapsed_s * 1e9),
        lost=snapshot.lost.events,
    )


def frames_of(stack: StackTotals) -> tuple[Frame, ...]:
    """Innermost first; at least one."""
    return stack.frames or (LOST,)


def name_of(frame: Frame) -> str:
    """The function, or `module+offset` if it has no name."""
    if frame.symbol:
        return _clean(frame.symbol)
    module = _clean(PurePath(frame.module).name)
    return f"{module}+{frame.offset:#x}" if module else f"{frame.address:#x}"


def path_of(text: str) -> str:
    """The path of a file or a module in characters that every format allows."""
    return _clean(text)


def losses(units: Sequence[ProcessProfile]) -> str:
    """A sentence for the reader; empty if nothing was lost."""
    lost = sum(unit.lost for unit in units)
    were = "was" if lost == 1 else "were"
    return f"{counted(lost, 'event')} {were} lost: totals are lower bounds" if lost else ""


def _clean(text: str) -> str:
    """`text` with U+FFFD for control characters and for bytes that are not UTF-8."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
