# SPDX-License-Identifier: Apache-2.0
"""Writes a recording: one segment after the other, in a thread of its own.

The thread makes and compresses rows while the main one reads the rings. If it falls behind, `add`
waits, and the rings count what they lose.
"""

from __future__ import annotations

import contextlib
import os
import platform
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kwatch.aggregate.call_join import JoinedCalls
from kwatch.errors import NO_ROOM, KwatchError
from kwatch.model.process import ProcessFacts
from kwatch.recording.retention import Retention
from kwatch.recording.rows import RowMaker, warm_up
from kwatch.recording.segment import Segment
from kwatch.recording.stack_rows import StackRows
from kwatch.recording.store import Store
from kwatch.recording.table_of_calls import table_of_calls
from kwatch.wire.events import Batch

_MAX_WAITING = 1 << 18  # records
_SWITCH_S = 0.0005  # between the threads: the rings cannot wait for Python's default of 5 ms
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """`segment_s`: how long one lasts. The oldest go if they are together larger than `size` bytes,
    or older than `age_s`; None: they stay."""

    segment_s: float
    size: int | None = None
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What the session knows at the end of a segment.

    `lost`: events since the start, by cause. `parents`: of processes, by pid. `descriptors`: of the
    processes that have not ended, rows of the table.
    """

    processes: tuple[ProcessFacts, ...]
    lost: Mapping[str, int]
    parents: Mapping[int, int] = field(default_factory=dict)
    descriptors: Sequence[dict[str, Any]] = ()


class _Work(NamedTuple):
    """`records`: how many wait with it."""

    records: int
    do: Callable[[], None]


class Recorder:
    """`add` and `close` raise KwatchError if something could not be written."""

    def __init__(
        self,
        store: Store,
        limits: Limits,
        boot_id: str,
        state: Callable[[], State],
        descriptors: Sequence[dict[str, Any]] = (),
    ) -> None:
        """`state` is called at the end of each segment, by the caller of `add`.

        `descriptors`: rows of the table, for the first segment.
        """
        self._store = store
        self._limits = limits
        self._state = state
        self._host = host_name()
        self._run = time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f"-{os.getpid()}"
        self._facts = {
            "host": self._host,
            "arch": platform.machine(),
            "kernel": platform.release(),
            "boot_id": boot_id,
            "run": self._run,
        }
        self._clock_ns = time.time_ns() - time.monotonic_ns()
        self._maker = RowMaker(self._clock_ns)
        self._stacks = StackRows()
        self._retention = Retention(store, self._host, limits.size, limits.age_s)
        self.calls = self.bytes = self.segments = 0
        self._began_ns = time.time_ns()
        self._lost: Counter[str] = Counter()
        self._has_failed = False
        self._error: BaseException | None = None
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._room = _Room(_MAX_WAITING)
        self._segment = self._new_segment()
        try:
            self._segment.write_table("descriptors", list(descriptors))
        except OSError as error:
            self._give_up(error)
            raise self._cannot_write(error) from error
        warm_up()
        sys.setswitchinterval(_SWITCH_S)
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    def add(self, joined: JoinedCalls) -> None:
        """Takes calls, and ends the segment if it is time."""
        self._check()
        if len(joined.order):
            self._put(_Work(len(joined.events), lambda: self._segment.add_calls(joined)))
        if time.time_ns() - self._began_ns >= self._limits.segment_s * _NS:
            self._began_ns = time.time_ns()
            self._end()

    def add_heap(self, events: Batch) -> None:
        """Takes events of kwatch.wire.events.HEAP, in order of time."""
        self._put(_Work(len(events), lambda: self._segment.add_heap(events)))

    def add_stacks(self, rows: list[dict[str, Any]]) -> None:
        """Takes rows of the table `stacks`, in any thread."""
        self._put(_Work(0, lambda: self._stacks.add(rows)))

    def add_mappings(self, rows: list[dict[str, Any]]) -> None:
        """Takes rows of the table `mappings`, with times on the clock of the events."""
        for row in rows:
            row["ts_ns"] += self._clock_ns
        self._put(_Work(0, lambda: self._segment.write_table("mappings", rows)))

    def _put(self, work: _Work) -> None:
        self._room.take(work.records)
        self._work.put(work)

    def _end(self) -> None:
        state = self._state()
        self._put(_Work(0, lambda: self._end_segment(state)))

    def close(self) -> None:
        """Commits the last segment."""
        if self._thread.is_alive():
            self._end()
            self._work.put(None)
            self._thread.join()
        self._check()
        self._segment.discard()  # nothing has come for it

    def abandon(self) -> None:
        """Leaves the last segment unfinished."""
        if self._thread.is_alive():
            self._work.put(None)
            self._thread.join()
        self._segment.abandon()

    def _check(self) -> None:
        error, self._error = self._error, None
        if isinstance(error, OSError):
            raise self._cannot_write(error) from error
        if error is not None:
            raise error

    def _cannot_write(self, error: OSError) -> KwatchError:
        cure = "free some space, or " * (error.errno in NO_ROOM) + "record elsewhere"
        before = "what was written before can be read" if self.segments else "nothing was recorded"
        return KwatchError(
            f"{self._store.path} cannot be written: {error.strerror}; {before}", cure
        )

    def _give_up(self, error: BaseException) -> None:
        """Removes the unfinished segment from a full disk."""
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            with contextlib.suppress(OSError):  # the first error is told
                self._segment.discard()

    def _write(self) -> None:
        """The thread."""
        while (work := self._work.get()) is not None:
            try:
                if not self._has_failed:  # else it only empties the queue
                    work.do()
            except BaseException as error:  # the main thread raises it
                self._error, self._has_failed = error, True
                self._give_up(error)
            finally:
                self._room.give(work.records)

    def _end_segment(self, state: State) -> None:
        segment = self._segment
        lost = Counter(state.lost)
        since = lost - self._lost
        self._lost = lost
        segment.write_table("calls", table_of_calls())
        segment.write_table(
            "processes", [_row(each, state.parents.get(each.pid, 0)) for each in state.processes]
        )
        segment.write_table("losses", [{"cause": k, "events": n} for k, n in since.items()])
        segment.commit(
            {
                **self._facts,
                "clock_offset_ns": self._clock_ns,
                "began_ns": segment.began_ns,
                "ended_ns": time.time_ns(),
                "calls": segment.calls,
                "lost": dict(since),
            }
        )
        self.calls += segment.calls
        self.bytes += segment.bytes
        self.segments += 1
        self._retention.add(segment)
        self._segment = self._new_segment()
        self._segment.write_table("descriptors", list(state.descriptors))

    def _new_segment(self) -> Segment:
        day = time.strftime("%Y-%m-%d", time.gmtime())
        folder = f"host={self._host}/day={day}"
        name = f"{self._run}-{self.segments + 1:06}"
        return Segment(self._store, self._maker, self._stacks, folder, name)


class _Room:
    """Records that may wait. One batch is always let in."""

    def __init__(self, records: int) -> None:
        self._records = records
        self._taken = 0
        self._changed = threading.Condition()

    def take(self, records: int) -> None:
        """Waits until there is room."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self._records)
            self._taken += records

    def give(self, records: int) -> None:
        with self._changed:
            self._taken -= records
            self._changed.notify()


def host_name() -> str:
    """The name of this machine, as the name of a folder."""
    return "".join(c if c.isalnum() or c in "-._" else "_" for c in platform.node()) or "unnamed"


def _row(process: ProcessFacts, parent: int) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "parent": parent,
        "start_ns": int(process.start_time * _NS),
        "comm": process.comm,
        "exe": process.exe,
        "ended": process.exited or bool(process.killed_by),
        "killed_by": process.killed_by or None,
    }
