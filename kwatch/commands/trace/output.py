# SPDX-License-Identifier: Apache-2.0
"""Where the lines of a trace go."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterable
from typing import Protocol, TextIO

from kwatch.commands.trace.errors import ErrorOutput
from kwatch.commands.trace.options import OutputOptions
from kwatch.errors import NO_ROOM, KwatchError
from kwatch.model.traced_call import TracedCall
from kwatch.sinks.frame_text import StackOf
from kwatch.sinks.trace_json import TraceJson
from kwatch.sinks.trace_lines import LineStyle, TraceLines
from kwatch.syscalls.decode.style import Descriptors
from kwatch.system import stdio


class CallSink(Protocol):
    """Writes calls in one format. Raises OSError."""

    def write(self, calls: Iterable[TracedCall]) -> None: ...

    def close(self) -> None: ...


class TraceOutput:
    """A sink on standard output or in a file.

    Raises KwatchError if it cannot be written. A closed pipe is not an error: BrokenPipeError
    passes through.
    """

    def __init__(
        self,
        options: OutputOptions,
        several: bool,
        descriptors: Descriptors | None = None,
        stack_of: StackOf | None = None,
    ) -> None:
        """`several`: there may be more than one thread, so that lines in a file name theirs.

        `descriptors`: -y. `stack_of`: -k.
        """
        self._name = options.output or "standard output"
        self._stream = self._open(options.output)
        self._descriptors = descriptors
        self._stack_of = stack_of
        self._sink = self._make_sink(options, several)

    def _open(self, path: str | None) -> TextIO:
        if path is None:
            return sys.stdout
        try:
            file = stdio.open_output(path, os.O_TRUNC)
        except OSError as error:
            raise KwatchError(
                f"{path or repr(path)} cannot be written: {error.strerror}", "give another --output"
            ) from error
        return io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape")

    def _make_sink(self, options: OutputOptions, several: bool) -> CallSink:
        if options.errors:
            return ErrorOutput(self._stream, options.json)
        more = self._descriptors, self._stack_of
        if options.json:
            return TraceJson(self._stream, options.strings, *more)
        style = LineStyle(
            strings=options.strings,
            clock=options.clock,
            relative=options.relative,
            spent=options.spent,
            pids=several and options.output is not None,
            color=self._stream.isatty() and "NO_COLOR" not in os.environ,
        )
        return TraceLines(self._stream, style, *more)

    def write(self, calls: Iterable[TracedCall]) -> None:
        self._translated(lambda: self._sink.write(calls))

    def close(self) -> None:
        """Writes the rest. A closed pipe is not an error."""
        with contextlib.suppress(BrokenPipeError):
            self._translated(self._sink.close)
            if self._stream is not sys.stdout:
                self._translated(self._stream.close)

    def _translated(self, action: Callable[[], None]) -> None:
        try:
            action()
        except BrokenPipeError:
            raise
        except OSError as error:
            cure = "free some space, or " * (error.errno in NO_ROOM) + "write to another file"
            raise KwatchError(f"{self._name} cannot be written: {error.strerror}", cure) from error
