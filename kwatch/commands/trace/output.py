# SPDX-License-Identifier: Apache-2.0
"""Where the lines of a trace go."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Protocol

from kwatch.commands.trace.errors import ErrorOutput
from kwatch.commands.trace.options import OutputOptions
from kwatch.model.traced_call import TracedCall
from kwatch.sinks.destination import Destination
from kwatch.sinks.frame_text import StackOf
from kwatch.sinks.trace_json import TraceJson
from kwatch.sinks.trace_lines import LineStyle, TraceLines
from kwatch.syscalls.decode.style import Descriptors


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
        self._to = Destination(options.output)
        self._descriptors = descriptors
        self._stack_of = stack_of
        self._sink = self._make_sink(options, several)

    def _make_sink(self, options: OutputOptions, several: bool) -> CallSink:
        if options.errors:
            return ErrorOutput(self._to.stream, options.json)
        more = self._descriptors, self._stack_of
        if options.json:
            return TraceJson(self._to.stream, options.strings, *more)
        style = LineStyle(
            strings=options.strings,
            clock=options.clock,
            relative=options.relative,
            spent=options.spent,
            pids=several and options.output is not None,
            color=self._to.stream.isatty() and "NO_COLOR" not in os.environ,
        )
        return TraceLines(self._to.stream, style, *more)

    def write(self, calls: Iterable[TracedCall]) -> None:
        self._to.attempt(lambda: self._sink.write(calls))

    def close(self) -> None:
        """Writes the rest. A closed pipe is not an error."""
        with contextlib.suppress(BrokenPipeError):
            self._to.attempt(self._sink.close)
            self._to.attempt(self._to.close)
