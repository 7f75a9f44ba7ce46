# SPDX-License-Identifier: Apache-2.0
"""Records every system call of running processes, with its arguments, in Parquet files.

`kwatch show` prints a recording as `kwatch trace` prints calls. Paths and structures are recorded;
the contents of buffers, which may be secrets, only with --content."""

from __future__ import annotations

import argparse
from dataclasses import replace

from kwatch.commands.call_options import (
    add_call_options,
    add_explain_option,
    explain,
    filter_from,
    kernel_code_of,
    recorded_calls,
)
from kwatch.commands.output_options import add_buffer_option
from kwatch.commands.record.options import RecordOptions
from kwatch.commands.recording_options import require_packages
from kwatch.commands.startup import compiling
from kwatch.commands.target_options import add_target_options
from kwatch.errors import UsageError
from kwatch.model.options import Releases, TraceOptions
from kwatch.syscalls.filter.expression import Expression
from kwatch.system import stdio
from kwatch.system.signals import Signals
from kwatch.units import parse_seconds, parse_size

SUMMARY = "record every system call in a directory of Parquet files"

TAKES_COMMAND = True

IF_INTERRUPTED = "; nothing was recorded"

USAGE = "kwatch record DIR [TARGET] [WHAT] [HOW LONG] [-- COMMAND [ARG ...]]"

EXAMPLES = """\
examples:
  kwatch record run1 -- make             record the system calls of a command
  kwatch record /var/log/calls --comm nginx --max-size 1G --max-age 1d
                                         a flight recorder: the oldest segments go
  kwatch show run1 -T                    show what was recorded
"""

_MAX_CONTENT = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="where to write; made if it is not there")
    add_target_options(parser, "the system calls of every process")
    what = parser.add_argument_group("what")
    add_call_options(what, "record")
    add_explain_option(what, "record")
    what.add_argument(
        "--content",
        default="0",
        metavar="BYTES",
        help=f"record so much of each buffer, at most {_MAX_CONTENT} (default: %(default)s)",
    )
    what.add_argument(
        "--heap", action="store_true", help="record allocations and releases of blocks too"
    )
    what.add_argument("--no-stacks", action="store_true", help="with --heap: no call stacks")
    what.add_argument(
        "-k", "--stack-trace", action="store_true", help="record the call stack of each call"
    )
    add_buffer_option(what)
    limits = parser.add_argument_group("how long")
    limits.add_argument("--duration", metavar="SECONDS", help="stop after this time")
    limits.add_argument(
        "--segment",
        default="60",
        metavar="SECONDS",
        help="begin new files after this time; a crash loses at most these (default: %(default)s)",
    )
    limits.add_argument(
        "--max-size", metavar="SIZE", help="remove the oldest segments beyond this total"
    )
    limits.add_argument("--max-age", metavar="SECONDS", help="remove segments older than this")


def run(arguments: argparse.Namespace) -> int:
    signals = Signals()  # first, so that no signal can leave anything behind
    stdio.obey(signals)
    require_packages("pyarrow")
    traced, options = options_from(arguments)
    if arguments.explain:
        return explain(options.filter)
    with compiling(traced) as loader:
        from kwatch.commands.record.run import Recording

        recording = Recording(traced, options, loader, signals)
    return recording.run()


def options_from(arguments: argparse.Namespace) -> tuple[TraceOptions, RecordOptions]:
    """Raises UsageError."""
    expression = filter_from(arguments)
    if arguments.no_stacks and not arguments.heap:
        raise UsageError("--no-stacks leaves out the stacks of the heap", "add --heap")
    traced = replace(
        recorded_calls(arguments, _content(arguments.content), kernel_code_of(expression)),
        heap=arguments.heap,
        heap_stacks=arguments.heap and not arguments.no_stacks,
        releases=Releases.NEVER,
        code=True,
    )
    duration, age, size = arguments.duration, arguments.max_age, arguments.max_size
    options = RecordOptions(
        directory=arguments.directory,
        filter=_rest(expression),
        duration_s=parse_seconds(duration) if duration is not None else None,
        segment_s=parse_seconds(arguments.segment),
        max_size=parse_size(size) if size is not None else None,
        max_age_s=parse_seconds(age) if age is not None else None,
    )
    return traced, options


def _content(text: str) -> int:
    """Raises UsageError."""
    if not text.isascii() or not text.isdigit() or int(text) > _MAX_CONTENT:
        raise UsageError(
            f"--content {text!r} is not a number of bytes up to {_MAX_CONTENT}", "try --content 256"
        )
    return int(text)


def _rest(expression: Expression | None) -> Expression | None:
    """The filter, if the kernel does not decide all of it."""
    if expression is None:
        return None
    from kwatch.syscalls.filter.split import split

    parts = split(expression)
    return expression if parts.user is not None or parts.exit is not None else None
