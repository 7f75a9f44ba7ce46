# SPDX-License-Identifier: Apache-2.0
"""The run of `kwatch watchpoint`: shows new places as they are hit, and all of them at the end."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, closing, suppress

from kwatch.commands.trace.losses import LossNotices
from kwatch.errors import ExitCode, KwatchError
from kwatch.kernel.breakpoints import Access
from kwatch.model.hit_place import HitPlace
from kwatch.model.options import TraceOptions
from kwatch.processes.process import Process
from kwatch.programs.loader import Loader
from kwatch.session.event_loop import EventLoop
from kwatch.sinks import watch_json, watch_lines
from kwatch.system import stdio
from kwatch.system.signals import Signals
from kwatch.targets.processes import comm_of
from kwatch.units import counted, printable
from kwatch.watchpoints.options import OnHit, WatchOptions
from kwatch.watchpoints.session import WatchSession
from kwatch.watchpoints.trial import try_watchpoints

_SHOW_S = 0.1  # a new place is shown at most so long after its hit
_SOON_S = 0.005  # between looks for a library with the variable
_AROUND = 32  # bytes of a dump, on each side
_SLOW = 2.0  # a slowdown of copies that is worth a word
_WHY = "its program: it was busy with another one on that CPU"
_PURPOSES = {
    Access.WRITE: "writes",
    Access.READ_WRITE: "reads and writes",
    Access.EXECUTE: "execution",
}


class WatchRun:
    """One run. The constructor attaches; if it fails, it leaves nothing behind."""

    def __init__(
        self,
        traced: TraceOptions,
        options: WatchOptions,
        loader: Loader,
        signals: Signals,
        as_json: bool,
        duration_s: float | None,
    ) -> None:
        """Raises KwatchError."""
        self._options = options
        self._json = as_json
        self._ended_s = 0.0
        _say_cost(options.access)
        with ExitStack() as stack:
            stack.callback(loader.close)
            self._session = stack.enter_context(
                closing(WatchSession(traced, options, loader, signals, _say, self._end))
            )
            self._losses = LossNotices(self._session.live.tracer.losses, _say)
            self._opened = stack.pop_all()
        self._loop = EventLoop(self._session.live, signals, _say, duration_s)

    def run(self) -> int:
        """Returns the exit status. Raises KwatchError, or BrokenPipeError if the pipe is closed."""
        with self._opened:
            try:
                if self._session.live.launched is None:
                    self._say_attached()
                self._loop.run(self._tick, self._arm_first)
                self._finish()
                return self._status()
            except (BrokenPipeError, KwatchError) as error:
                if self._session.live.launched is None:
                    raise
                return self._loop.see_out(error, self._opened.close)

    def _arm_first(self, pid: int) -> None:
        """Before the first instruction of a launched program."""
        self._arm()

    def _arm(self) -> bool:
        was_set = self._session.watchpoint.ever
        is_set = self._session.arm()
        if is_set and not was_set:
            self._say_attached()
        return is_set

    def _tick(self) -> float:
        is_set = self._arm()
        self._show(self._session.new_places())
        self._losses.tell_new()
        most = self._options.max_hits
        if most is not None and self._session.hits.count >= most:
            self._loop.stop()
        return time.monotonic() + (_SHOW_S if is_set else _SOON_S)

    def _finish(self) -> None:
        session = self._session
        until_s = self._ended_s or time.monotonic()
        session.watchpoint.disarm()
        session.live.finish(self._loop.patience("reading the remaining events"))
        self._show(session.new_places(at_end=True))
        if not session.watchpoint.ever:
            raise KwatchError(
                f"nothing was watched: no file that the program mapped has a variable or a "
                f"function named {self._options.site.name}",
                "list the names with `nm` or `nm -D`",
            )
        self._summarize(until_s - session.watchpoint.first_ns / 1e9)

    def _summarize(self, seconds: float) -> None:
        hits, lost = self._session.hits, self._losses.lost()
        missed = max(self._session.missed - lost.by_cause.get("hit_ring_full", 0), 0)
        if self._json:
            line = watch_json.final_line(hits.places, hits.count, seconds, missed, lost.by_cause)
        else:
            line = watch_lines.final_text(hits.places, hits.count, seconds)
        stdio.write(line)
        self._losses.tell_all("list of hits")
        if missed:
            more = counted(missed, "more hit")
            _say(f"kwatch: {more} happened, but the kernel did not run {_WHY}")
        if hits.unlisted:
            _say(f"kwatch: {counted(hits.unlisted, 'hit')} in further places are not listed")

    def _show(self, places: list[HitPlace]) -> None:
        actions = self._options.on_hit
        if not actions & {OnHit.STACK, OnHit.DUMP, OnHit.STOP}:
            return
        text_of = watch_json.place_line if self._json else watch_lines.place_text
        for place in places:
            dump = _memory(place) if OnHit.DUMP in actions else None
            stdio.write(text_of(place, dump))
            if OnHit.STOP in actions:
                _say(f"kwatch: stopped; to continue it: kill -CONT {place.pid}")

    def _say_attached(self) -> None:
        session, watched = self._session, self._session.watchpoint.current
        assert watched is not None
        name = "" if self._options.site.address is not None else f"{self._options.site.text}, "
        size = "" if watched.access is Access.EXECUTE else f"{counted(watched.length, 'byte')} "
        _say(
            f"attached to {comm_of(session.pid)}[{session.pid}]; watchpoint: {name}{size}at "
            f"{watched.address:#x}, for {_PURPOSES[watched.access]}, by {session.watchpoint.who}"
        )

    def _status(self) -> int:
        return self._loop.status() or ExitCode.DONE

    def _end(self, process: Process) -> None:
        if process.pid == self._session.pid:
            self._ended_s = time.monotonic()
        self._losses.keep(process.pid)


def _say_cost(access: Access) -> None:
    """Says what the watchpoint costs, before it is set. Raises KwatchError if there are none."""
    trial = try_watchpoints()
    if access is not Access.EXECUTE and trial.slowdown >= _SLOW:
        _say(
            "kwatch: on this processor, a watchpoint for data makes large copies slow while it is "
            f"set: 30 KB took {trial.slowdown:.1f} times as long"
        )


def _memory(place: HitPlace) -> tuple[int, bytes]:
    """The memory around it, as it is now: watchpoints do not see such a read.

    Empty after the end of the process.
    """
    start = max(place.address - _AROUND, 0) & ~7
    with suppress(OSError), open(f"/proc/{place.pid}/mem", "rb", buffering=0) as memory:
        return start, os.pread(memory.fileno(), 2 * _AROUND, start)
    return start, b""


def _say(line: str) -> None:
    stdio.say(printable(line))
