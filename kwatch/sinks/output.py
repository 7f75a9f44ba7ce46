# SPDX-License-Identifier: Apache-2.0
"""Writes snapshots: opens the destinations, chooses the sinks, translates their errors."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

from kwatch.errors import UsageError
from kwatch.model.options import ReportOptions
from kwatch.model.snapshot import EndedSummary, Snapshot
from kwatch.sinks import Sink
from kwatch.sinks.destination import Destination, attempt
from kwatch.sinks.formats import PROFILE_FORMATS
from kwatch.units import counted

if TYPE_CHECKING:
    from kwatch.model.holders import HolderReport
    from kwatch.sinks.profiles.files import Profiles


class Output:
    """A sink on standard output or in a file, and profiles in other files.

    Raises KwatchError if a destination cannot be written. A closed pipe is not an error:
    BrokenPipeError passes through. With --fail-on-leak or --fail-on-growth, output stops and
    tracing goes on, because the exit status still needs the verdict.
    """

    def __init__(self, options: ReportOptions) -> None:
        self._options = options
        _require_distinct([options.output, *options.profiles.values()])
        self._profiles = self._profiles_for(options)
        self._to = Destination(options.output)
        self._sink = self._make_sink()

    def _profiles_for(self, options: ReportOptions) -> Profiles | None:
        if not options.profiles:
            return None
        from kwatch.sinks.profiles.files import Profiles

        formats = {each.name: each for each in PROFILE_FORMATS}
        made = {path: formats[name].load() for name, path in options.profiles.items()}
        return attempt("a profile", lambda: Profiles(made))

    def _make_sink(self) -> Sink:
        if self._options.json:
            from kwatch.sinks.jsonl import JsonLines

            return JsonLines(self._to.stream)
        from kwatch.sinks.table.table import Tables

        color = self._to.stream.isatty() and "NO_COLOR" not in os.environ
        return Tables(self._to.stream, color=color, full_stacks=self._options.full_stacks)

    def profile(self, snapshots: Iterable[Snapshot]) -> None:
        """Keeps the profiles of the snapshots for the files."""
        if self._profiles is not None:
            for snapshot in snapshots:
                self._profiles.write(snapshot)

    def write_profiles(self) -> None:
        """Updates the files where that is cheap; `close` always updates them."""
        if self._profiles is not None:
            self._to.attempt(self._profiles.flush)

    def write(self, snapshot: Snapshot) -> None:
        self._put(lambda: self._sink.write(snapshot))

    def write_busiest(self, snapshots: Sequence[Snapshot], others: int) -> None:
        """Writes the busiest of many processes. `others`: how many are left out."""
        for snapshot in snapshots:
            self.write(snapshot)
        if others:
            self._put(
                lambda: _print(
                    self._to.stream, f"({counted(others, 'more process', 'more processes')})\n"
                )
            )

    def write_ended(self, summary: EndedSummary) -> None:
        """Writes what ended processes did, by name."""
        self._put(lambda: self._sink.write_ended(summary))

    def write_holders(self, report: HolderReport) -> None:
        """Writes what holds the blocks of a function."""
        from kwatch.sinks.holders import sums_json_line, sums_text

        is_json = self._options.json
        text = sums_json_line(report) + "\n" if is_json else sums_text(report, self._options.top)
        self._put(lambda: _print(self._to.stream, text))

    def _put(self, action: Callable[[], None]) -> None:
        try:
            self._to.attempt(action)
        except BrokenPipeError:
            if not self._options.needs_verdict:
                raise
            self._drop_the_rest()

    def _drop_the_rest(self) -> None:
        with contextlib.suppress(OSError):
            self._to.close()
        self._to = Destination(os.devnull)
        self._sink = self._make_sink()

    def close(self) -> None:
        """Writes the rest. A closed pipe is not an error."""
        try:
            if self._profiles is not None:
                self._closed(self._profiles.close)
        finally:
            self._closed(self._sink.close)
            self._closed(self._to.close)

    def _closed(self, action: Callable[[], None]) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._to.attempt(action)


def _require_distinct(paths: list[str | None]) -> None:
    files = [os.path.realpath(path) for path in paths if path is not None]
    for file in files:
        if files.count(file) > 1 and not stat.S_ISCHR(_mode(file)):
            raise UsageError(f"{file} would be written twice", "give each option its own file")


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0


def _print(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()
