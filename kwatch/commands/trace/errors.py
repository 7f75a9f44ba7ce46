# SPDX-License-Identifier: Apache-2.0
"""Sums up the calls that failed, instead of writing lines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from kwatch.aggregate.call_errors import CallErrors
from kwatch.model.traced_call import TracedCall
from kwatch.sinks.error_summary import error_json, error_table


class ErrorOutput:
    """A sink of calls that writes at its end. Raises OSError."""

    def __init__(self, stream: TextIO, json: bool) -> None:
        self._stream = stream
        self._text = error_json if json else error_table
        self._errors = CallErrors()

    def write(self, calls: Iterable[TracedCall]) -> None:
        """Counts those that have failed."""
        for call in calls:
            self._errors.add(call)

    def close(self) -> None:
        self._stream.write(self._text(self._errors.summary()))
        self._stream.flush()
