# SPDX-License-Identifier: Apache-2.0
"""Where snapshots go: opens the destination, chooses the sink, translates its errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TextIO

from kwatch.errors import KwatchError
from kwatch.options import WatchOptions
from kwatch.sinks import Sink
from kwatch.snapshot import Snapshot


class Output:
    """A sink on standard output or in a file. Raises KwatchError when it cannot be written.

    A reader that has closed its pipe is no error: BrokenPipeError passes through.
    """

    def __init__(self, options: WatchOptions) -> None:
        self._name = options.output or "standard output"
        self._stream = self._open(options.output)
        self._sink = self._sink_for(options)

    def _open(self, path: str | None) -> TextIO:
        if path is None:
            if sys.stdout is None:
                raise KwatchError("standard output is closed", "give an --output file")
            return sys.stdout
        try:
            return open(path, "w", encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise KwatchError(
                f"{path or repr(path)} cannot be written: {error.strerror}", "give another --output"
            ) from error

    def _sink_for(self, options: WatchOptions) -> Sink:
        if options.json:
            from kwatch.sinks.jsonl import JsonLines

            return JsonLines(self._stream)
        from kwatch.sinks.table import Tables

        color = self._stream.isatty() and "NO_COLOR" not in os.environ
        return Tables(self._stream, color=color)

    def _translated(self, action: Callable[[], None]) -> None:
        try:
            action()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise KwatchError(
                f"{self._name} cannot be written: {error.strerror}",
                "make room, or give another --output",
            ) from error

    def write(self, snapshot: Snapshot) -> None:
        self._translated(lambda: self._sink.write(snapshot))

    def write_busiest(self, snapshots: list[Snapshot], top: int) -> None:
        """Of many processes, those that did most."""
        busiest = sorted(snapshots, key=_activity, reverse=True)[:top]
        for snapshot in busiest:
            self.write(snapshot)
        if len(busiest) < len(snapshots):
            more = f"({len(snapshots) - len(busiest)} more processes)\n"
            self._translated(lambda: _print(self._stream, more))

    def close(self) -> None:
        self._translated(self._sink.close)
        if self._stream is not sys.stdout:
            self._translated(self._stream.close)


def _print(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


def _activity(snapshot: Snapshot) -> int:
    calls = snapshot.syscalls.calls if snapshot.syscalls is not None else 0
    return calls + (snapshot.heap.allocs if snapshot.heap is not None else 0)
