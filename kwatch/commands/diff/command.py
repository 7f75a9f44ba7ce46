# SPDX-License-Identifier: Apache-2.0
"""Compares the recordings of two runs of a program, such as a good and a bad one.

Threads are paired by name, in the order of their creation, and their calls by name and path. Shown
are the first difference with its surroundings, and what differs in counts, errors and latency.
Addresses, pids and times do not count. The exit status is 0 if nothing differs, 1 if something
does, and 2 for errors."""

from __future__ import annotations

import argparse

from kwatch.commands.call_options import chosen_names
from kwatch.commands.recording_options import require_packages
from kwatch.commands.trace.command import strings_from
from kwatch.errors import ExitCode, KwatchError
from kwatch.system import stdio

SUMMARY = "compare the recordings of two runs, such as a good and a bad one"

USAGE = "kwatch diff DIR DIR [-e trace=SET] [-s BYTES]"

EXAMPLES = """\
examples:
  kwatch diff good bad                   where a bad run leaves the path of a good one
  kwatch diff good bad -e trace=%file    the same, of calls that take a path
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


def run(arguments: argparse.Namespace) -> int:
    try:
        return _run(arguments)
    except KwatchError as error:
        error.exit_code = ExitCode.USAGE  # 1 is for runs that differ
        raise


def _run(arguments: argparse.Namespace) -> int:
    names, strings = chosen_names(arguments), strings_from(arguments)
    require_packages("pyarrow")

    from kwatch.commands.diff.report import lines
    from kwatch.commands.recording_notes import notes
    from kwatch.recording.diff.compare import compare
    from kwatch.recording.diff.run import Run
    from kwatch.recording.manifest import open_recording

    recordings = [open_recording(path) for path in (arguments.first, arguments.second)]
    first, second = (Run(recording, names, strings) for recording in recordings)
    comparison = compare(first, second)
    stdio.write("".join(f"{line}\n" for line in lines(first, second, comparison)))
    for recording in recordings:
        for note in notes(recording):
            stdio.say(note)
    return ExitCode.FAILED if comparison.differs else ExitCode.DONE
