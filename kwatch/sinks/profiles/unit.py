# SPDX-License-Identifier: Apache-2.0
"""What every format is made from: the profiles of processes, and how their frames are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath

from kwatch.model.frame import Frame
from kwatch.model.snapshot import HeapProfile, Snapshot, StackTotals

#: A stack of which no frame is known.
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


#: Makes the contents of a file.
Format = Callable[[Sequence[ProcessProfile]], bytes]


@dataclass(frozen=True, slots=True)
class Measure:
    """One of the figures of a stack. `name` and `unit` are those of Go's heap profile."""

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

#: What leaks are looked for in, hence what is shown first.
INUSE_SPACE = MEASURES[3]
ALLOC_SPACE = MEASURES[1]


def unit_of(snapshot: Snapshot) -> ProcessProfile:
    """Of a snapshot with a profile."""
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
    """Innermost first, and never none."""
    return stack.frames or (LOST,)


def name_of(frame: Frame) -> str:
    """The function; where it has no name, the module and the offset in it."""
    if frame.symbol:
        return _clean(frame.symbol)
    module = _clean(PurePath(frame.module).name)
    return f"{module}+{frame.offset:#x}" if module else f"{frame.address:#x}"


def path_of(text: str) -> str:
    """The path of a file or a module, in characters that every format can hold."""
    return _clean(text)


def losses(units: Sequence[ProcessProfile]) -> str:
    """A sentence for the reader; empty if nothing was lost."""
    lost = sum(unit.lost for unit in units)
    return f"{lost} events were lost: the figures are lower bounds" if lost else ""


def _clean(text: str) -> str:
    """Without control characters, and U+FFFD for the bytes of names that are not UTF-8."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
