# SPDX-License-Identifier: Apache-2.0
"""The run of `kwatch watchpoint`: shows new places as they are hit, and all of them at the end."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, closing, suppress

from kwatch.commands.trace.losses import LossNotices
from kwatch.commands.watchpoint import messages
from kwatch.errors import ExitCode, KwatchError
from kwatch.model.hit_place import HitPlace
from kwatch.model.options import TraceOptions
from kwatch.processes.process import Process
from kwatch.programs.loader import Loader
from kwatch.session.event_loop import EventLoop
from kwatch.sinks import watch_json, watch_lines
from kwatch.system import stdio
from kwatch.system.signals import Signals
from kwatch.units import printable
from kwatch.watchpoints.blocks.watch import BlockWatch, Coverage
from kwatch.watchpoints.options import OnHit, WatchOptions
from kwatch.watchpoints.session import WatchSession

_SHOW_S = 0.1  # a new place is shown at most so long after its hit
_SOON_S = 0.002  # between looks for a library with the variable, or for a block
_MAX_GAPS = 1000  # in the final object
_AROUND = 32  # bytes of a dump, on each side
_BLOCK_S = 0.02  # between looks whether the block that is watched has ended


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
        self._traced = traced
        self._options = options
        self._json = as_json
        self._ended_s = 0.0
        self._stopped_after = self._told_turns = 0
        for line in messages.cost_lines(options.access):
            _say(line)
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
                if self._session.live.launched is None or self._options.of_blocks:
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
        if self._session.blocks is not None:
            self._tell_block(self._session.blocks)
        elif is_set and not was_set:
            self._say_attached()
        return is_set

    def _tell_block(self, blocks: BlockWatch) -> None:
        """In JSON, each block; else only the first: there may be very many."""
        if blocks.turns == self._told_turns or (watched := blocks.now) is None:
            return
        if self._json:
            at = watched.breakpoint
            line = watch_json.block_line(blocks.turns, at.address, at.length, watched.size)
            stdio.write(line)
        elif not self._told_turns:
            _say(messages.block_line(watched, self._session.watchpoint.who))
        self._told_turns = blocks.turns

    def _tick(self) -> float:
        is_set = self._arm()
        self._show(self._session.new_places())
        self._stop_process()
        self._losses.tell_new()
        most = self._options.max_hits
        if most is not None and self._session.hits.unexpected >= most:
            self._loop.stop()
        if not is_set:
            return time.monotonic() + _SOON_S
        return time.monotonic() + (_BLOCK_S if self._options.of_blocks else _SHOW_S)

    def _finish(self) -> None:
        session = self._session
        until_s = self._ended_s or time.monotonic()
        coverage = session.blocks.coverage() if session.blocks is not None else None
        session.watchpoint.disarm()
        session.live.finish(self._loop.patience("reading the remaining events"))
        self._show(session.new_places(at_end=True))
        if not session.watchpoint.ever:
            session.name_the_rest()
            raise messages.nothing_watched(self._options, session.blocks)
        self._summarize(until_s - session.watchpoint.first_ns / 1e9, coverage)

    def _summarize(self, seconds: float, coverage: Coverage | None) -> None:
        hits, lost = self._session.hits, self._losses.lost()
        ring_full = lost.by_cause.get("hit_ring_full", 0)
        if self._json:
            of_run = self._of_run(seconds, coverage, max(self._session.missed - ring_full, 0))
            line = watch_json.final_line(hits.places, hits.count, of_run, lost.by_cause)
        else:
            line = watch_lines.final_text(hits.places, hits.count, seconds)
            if coverage is not None:
                line += messages.coverage_text(coverage, seconds, self._options.site.part) + "\n"
        stdio.write(line)
        self._losses.tell_all("list of hits")
        for said in messages.missing_lines(self._session, ring_full):
            _say(said)

    def _of_run(self, seconds: float, coverage: Coverage | None, missed: int) -> dict[str, object]:
        found: dict[str, object] = {"watched_s": round(seconds, 3), "missed": missed}
        if coverage is not None:
            found |= {
                "blocks": coverage.blocks,
                "blocks_watched_s": round(coverage.watched_ns / 1e9, 3),
                "gaps_ns": coverage.gaps_ns[:_MAX_GAPS],
                "not_live": self._session.hits.ignored,
            }
        return found

    def _show(self, places: list[HitPlace]) -> None:
        actions = self._options.on_hit
        if not actions & {OnHit.STACK, OnHit.DUMP, OnHit.STOP}:
            return
        text_of = watch_json.place_line if self._json else watch_lines.place_text
        for place in places:
            if place.is_expected and not self._json:
                continue  # in the summary
            dump = _memory(place) if OnHit.DUMP in actions else None
            stdio.write(text_of(place, dump))

    def _stop_process(self) -> None:
        """A variable's watchpoint has stopped it already, at once; see WatchSession."""
        hits = self._session.hits.unexpected
        if OnHit.STOP not in self._options.on_hit or hits == self._stopped_after:
            return
        self._stopped_after = hits
        if self._ended_s or (self._options.of_blocks and not self._session.stop_process()):
            return
        _say(f"kwatch: stopped; to continue it: kill -CONT {self._session.pid}")

    def _say_attached(self) -> None:
        _say(messages.watched_line(self._traced, self._options, self._session))

    def _status(self) -> int:
        return self._loop.status() or ExitCode.DONE

    def _end(self, process: Process) -> None:
        if process.pid == self._session.pid:
            self._ended_s = time.monotonic()
        self._losses.keep(process.pid)


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
