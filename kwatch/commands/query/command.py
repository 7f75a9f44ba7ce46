# SPDX-License-Identifier: Apache-2.0
"""Answers a question about a recording that is asked in SQL, with DuckDB.

The tables are syscalls, signals, exits, processes, losses and calls; --tables lists their columns.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import Any

from kwatch.commands.output_options import output_from
from kwatch.commands.recording_options import require_packages
from kwatch.commands.trace.command import strings_from
from kwatch.errors import ExitCode, UsageError
from kwatch.system import stdio
from kwatch.system.signals import Signals

SUMMARY = "answer a question about a recording, asked in SQL"

USAGE = "kwatch query DIR [SQL] [OUTPUT]"

EXAMPLES = """\
examples:
  kwatch query run1 'select name, count(*) from syscalls group by name order by 2 desc'
  kwatch query run1 --csv -o slow.csv 'select ts, text from syscalls where duration_ns > 1e6'
  kwatch query run1 --tables             list the tables and their columns
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="what `kwatch record` wrote")
    sql = parser.add_argument("sql", metavar="SQL", help="one SELECT, as DuckDB knows it")
    parser.add_argument(
        "--tables",
        action=_Instead,
        replaced=sql,
        help="list the tables and columns, with their meanings",
    )
    parser.add_argument(
        "-s",
        "--string-limit",
        default="32",
        metavar="BYTES",
        help="show so much of each string and buffer in `text` (default: %(default)s)",
    )
    output = parser.add_argument_group("output")
    form = output.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print comma-separated values")
    form.add_argument("--json", action="store_true", help="print one JSON object per row")
    output.add_argument(
        "-o", "--output", metavar="FILE", help="write to FILE (default: standard output)"
    )


class _Instead(argparse.Action):
    """A flag that is given instead of another argument."""

    def __init__(self, *, replaced: argparse.Action, **options: Any) -> None:
        super().__init__(**options, nargs=0, default=False)
        self._replaced = replaced

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option: str | None = None,
    ) -> None:
        self._replaced.required = False
        setattr(namespace, self.dest, True)


def run(arguments: argparse.Namespace) -> int:
    if arguments.tables and arguments.sql is not None:
        raise UsageError("--tables takes no SQL", "try `kwatch query --help`")
    strings = strings_from(arguments)
    signals = Signals()
    stdio.obey(signals)
    require_packages("duckdb", "pyarrow")

    from kwatch.commands.query.output import RowOutput, csv, json, table
    from kwatch.commands.query.tables import tables
    from kwatch.commands.recording_notes import notes
    from kwatch.recording.manifest import open_recording
    from kwatch.recording.query import Database

    recording = open_recording(arguments.directory)
    with closing(Database(recording, strings, signals.check)) as database:
        answer = tables(database) if arguments.tables else database.answer(arguments.sql)
        form = csv if arguments.csv else json if arguments.json else table
        with closing(RowOutput(output_from(arguments))) as output:
            form(answer, output)
    for line in notes(recording):
        stdio.say(line)
    return ExitCode.DONE
