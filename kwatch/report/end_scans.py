# SPDX-License-Identifier: Apache-2.0
"""Scans the heap that a process leaves behind when it ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from kwatch.errors import KwatchError
from kwatch.model.reach import HeapReach
from kwatch.processes.heap_scan import HeapScan
from kwatch.processes.process import Process
from kwatch.reach.left_state import LeftState
from kwatch.reach.scanner import Scanner
from kwatch.report.heap_scans import has_blocks, heap_scan, known_blocks
from kwatch.session.held_targets import HeldTargets, Left

_NOT_HELD = "its memory was gone before it could be scanned"
_AT_THE_END = 1 << 62  # after every block, on the clock of the events
_MANY_THREADS = "it had more threads than kwatch has registers of"


class EndScans:
    """Of the targets whose memory is held. `free_scanner` makes the scanner ready for a scan.

    `cure`: how the others would be held; empty if they cannot.
    """

    def __init__(
        self,
        held: HeldTargets,
        scanner: Scanner,
        free_scanner: Callable[[], None],
        cure: str = "",
    ) -> None:
        self._held = held
        self._scanner = scanner
        self._free_scanner = free_scanner
        self._cure = cure

    def prepare(self, many: bool) -> None:
        """Starts helpers while the command is being launched.

        `many`: several processes may end, and the others must not wait for the scanner to start.
        Without that it starts with the first scan: a short command may need none.
        """
        with suppress(KwatchError, OSError):  # they are started again when they are needed
            self._held.prepare()
            if many:
                self._scanner.start()

    def scan(self, process: Process, limit_s: float) -> None:
        """Scans what a process has left behind. The result is its `heap_scan`.

        `limit_s`: how long to wait for it.
        """
        left = self._held.leave(process.pid)
        if left is None:
            process.heap_scan = _unscanned(process, f"{_NOT_HELD}{self._cure}")
            return
        try:
            process.heap_scan = self._scanned(process, left, limit_s)
        finally:
            if left.memory is not None:
                left.memory.release()

    def forget(self, process: Process) -> None:
        """A process has ended that has no heap of its own, or that an exec has replaced."""
        self._held.forget(process.pid)

    def _scanned(self, process: Process, left: Left, limit_s: float) -> HeapScan | None:
        if not has_blocks(process):
            return None
        if left.memory is None:
            return _unscanned(process, f"{_NOT_HELD}: {_why(process, left)}")
        if left.has_more_threads:
            return _unscanned(process, _MANY_THREADS)
        state = LeftState(left.memory.regions(), left.threads)
        self._free_scanner()
        try:
            self._scanner.ask_about(left.memory, state, known_blocks(process))
        except OSError as error:
            reason = f"the heap scanner cannot be started: {error.strerror}"
            return _unscanned(process, reason)
        if not self._scanner.wait(limit_s):
            self._scanner.stop()
            return _unscanned(process, "the last scan took too long")
        answer = self._scanner.answer()
        if answer.error:
            return _unscanned(process, answer.error)
        return heap_scan(answer, answer.seconds, _AT_THE_END, _AT_THE_END)


def _why(process: Process, left: Left) -> str:
    """The gap in what was probed, which the verdict gives too, has the same cure."""
    has_cure = left.cure and not process.coverage.own_gap
    return f"{left.why}; {left.cure}" if has_cure else left.why


def _unscanned(process: Process, reason: str) -> HeapScan:
    """What an earlier scan found lost stays lost."""
    earlier = process.heap_scan
    if earlier is None or earlier.classes is None:
        return HeapScan(HeapReach(error=reason))
    return replace(earlier, reach=replace(earlier.reach, error=reason))
