# SPDX-License-Identifier: Apache-2.0
"""Compares the recordings of two runs of a program, such as a good and a bad one.

Threads are paired by name, in the order of their creation, and their calls by name and path. Shown
are the first difference with its surroundings, or more of them, and what differs in counts, errors
and latency.
Addresses, pids and times do not count. The exit status is 0 if nothing differs, 1 if something
does, and 2 for errors."""

from __future__ import annotations

import argparse

from kwatch.commands.call_options import chosen_names
from kwatch.commands.recording_options import require_packages
from kwatch.commands.trace.command import strings_from
from kwatch.errors import ExitCode, KwatchError, UsageError
from kwatch.system import stdio

SUMMARY = "compare the recordings of two runs, such as a good and a bad one"

USAGE = "kwatch diff DIR DIR [-e trace=SET] [-s BYTES] [--all | --max N] [--json]"

EXAMPLES = """\
examples:
  kwatch diff good bad                   where a bad run leaves the path of a good one
  kwatch diff good bad -e trace=%file    the same, of calls that take a path
  kwatch diff good bad --all --json      every difference, for another program
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="DIR", help="what `kwatch record` wrote of one run")
    parser.add_argument("second", metavar="DIR", help="and of another one")
    parser.add_argument(
        "-e",
        dest="expression",
        metavar="trace=SET",
        help="compare these system calls: names, %%class, /regex and !, as in strace",
    )
    parser.add_argument(
        "-s",
        "--string-limit",
        default="32",
        metavar="BYTES",
        help="show so much of each string and buffer; all is compared (default: %(default)s)",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--all", action="store_true", help="show all differences")
    shown.add_argument(
        "--max",
        default="1",
        metavar="N",
        help="show the first N differences (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def run(arguments: argparse.Namespace) -> int:
    try:
        return _run(arguments)
    except KwatchError as error:
        error.exit_code = ExitCode.USAGE  # 1 is for runs that differ
        raise


def _run(arguments: argparse.Namespace) -> int:
    names, strings = chosen_names(arguments), strings_from(arguments)
    most = None if arguments.all else _most(arguments.max)
    require_packages("pyarrow")

    from kwatch.commands.diff.json_report import json_lines
    from kwatch.commands.diff.report import lines
    from kwatch.commands.recording_notes import notes
    from kwatch.recording.diff.compare import compare
    from kwatch.recording.diff.run import Run
    from kwatch.recording.manifest import open_recording

    recordings = [open_recording(path) for path in (arguments.first, arguments.second)]
    first, second = (Run(recording, names, strings) for recording in recordings)
    comparison = compare(first, second, most)
    made = json_lines if arguments.json else lines
    stdio.write("".join(f"{line}\n" for line in made(first, second, comparison)))
    for recording in recordings:
        for note in notes(recording):
            stdio.say(note)
    return ExitCode.FAILED if comparison.differs else ExitCode.DONE


def _most(text: str) -> int:
    """Raises UsageError."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"--max {text!r} is not a number above zero", "try --max 10")
    return int(text)
