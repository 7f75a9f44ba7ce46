# SPDX-License-Identifier: Apache-2.0
"""Where errors are written, and in which format."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

from kwatch.errors import NO_ROOM, KwatchError
from kwatch.model.heap_error import CheckSummary, HeapError
from kwatch.sinks import heap_errors
from kwatch.system import stdio
from kwatch.units import printable


class CheckOutput:
    """Raises KwatchError if it cannot be written. A closed pipe passes as BrokenPipeError."""

    def __init__(self, path: str | None, is_json: bool) -> None:
        self._name = path or "standard output"
        self._is_json = is_json
        self._stream = self._open(path)

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
            if self._stream is not sys.stdout:
                self._translated(self._stream.close)

    def _write(self, text: str) -> None:
        shown = text if self._is_json else "\n".join(map(printable, text.split("\n")))

        def write() -> None:
            self._stream.write(shown)
            self._stream.flush()

        self._translated(write)

    def _translated(self, action: Callable[[], object]) -> None:
        try:
            action()
        except BrokenPipeError:
            raise
        except OSError as error:
            cure = "free some space, or " * (error.errno in NO_ROOM) + "write to another file"
            raise KwatchError(f"{self._name} cannot be written: {error.strerror}", cure) from error
