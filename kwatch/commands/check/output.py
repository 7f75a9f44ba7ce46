# SPDX-License-Identifier: Apache-2.0
"""Where errors are written, and in which format."""

from __future__ import annotations

import contextlib

from kwatch.model.heap_error import CheckSummary, HeapError
from kwatch.sinks import heap_errors
from kwatch.sinks.destination import Destination
from kwatch.units import printable


class CheckOutput:
    """Raises KwatchError if it cannot be written. A closed pipe passes as BrokenPipeError."""

    def __init__(self, path: str | None, is_json: bool) -> None:
        self._is_json = is_json
        self._to = Destination(path)

    def error(self, error: HeapError) -> None:
        is_json = self._is_json
        self._write(heap_errors.error_json(error) if is_json else heap_errors.error_text(error))

    def summary(self, summary: CheckSummary) -> None:
        """As text, each error follows once more: it has its count by now."""
        if self._is_json:
            self._write(heap_errors.summary_json(summary))
            return
        repeated = [error for error in summary.errors if error.count > 1]
        texts = [*map(heap_errors.error_text, repeated), heap_errors.summary_text(summary)]
        self._write("".join(texts))

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._to.attempt(self._to.close)

    def _write(self, text: str) -> None:
        shown = text if self._is_json else "\n".join(map(printable, text.split("\n")))

        def write() -> None:
            self._to.stream.write(shown)
            self._to.stream.flush()

        self._to.attempt(write)
