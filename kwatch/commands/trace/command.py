# SPDX-License-Identifier: Apache-2.0
"""Shows every system call of running processes as a line, with its arguments, as strace does.

The processes are not stopped. If calls come faster than they can be shown, the rest is counted."""

from __future__ import annotations

import argparse
from dataclasses import replace

from kwatch.commands.call_options import (
    add_call_options,
    add_explain_option,
    chosen_names,
    explain,
    filter_from,
    kernel_code_of,
    recorded_calls,
)
from kwatch.commands.output_options import add_output_options, output_from
from kwatch.commands.startup import compiling
from kwatch.commands.target_options import add_target_options
from kwatch.commands.trace.options import OutputOptions
from kwatch.errors import UsageError
from kwatch.model.options import TraceOptions
from kwatch.system import stdio
from kwatch.system.signals import Signals
from kwatch.units import parse_seconds

SUMMARY = "show each system call with its arguments and result, as strace does"

TAKES_COMMAND = True

IF_INTERRUPTED = "; nothing was traced"

USAGE = "kwatch trace [TARGET] [WHAT] [LINES] [OUTPUT] [-- COMMAND [ARG ...]]"

EXAMPLES = """\
examples:
  kwatch trace -- ls                     show the system calls of a command
  kwatch trace --pid 1234 -tt -T         with the time of day and the time spent in each
  kwatch trace -f -Z -o log -- make      write only failed calls of all processes to a file
  kwatch trace -y --pid 1234             with the path of each open file
  kwatch trace --errors --pid 1234       which calls fail, how often, and on which files
  kwatch trace --comm nginx -e trace=%network -s 256
                                         show the network calls of every nginx
"""

_MAX_STRINGS = 65535  # a record has no more of one string


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_options(parser, "the system calls of every process")
    what = parser.add_argument_group("what")
    add_call_options(what, "trace")
    add_explain_option(what, "trace")
    add_outcome_options(what)
    what.add_argument("--duration", metavar="SECONDS", help="stop after this time")
    lines = parser.add_argument_group("lines")
    add_line_options(lines)
    add_descriptor_option(lines)
    add_output_options(parser.add_argument_group("output"))


def add_outcome_options(group: argparse._ArgumentGroup) -> None:
    outcome = group.add_mutually_exclusive_group()
    outcome.add_argument(
        "-z", "--successful-only", action="store_true", help="show only calls that succeed"
    )
    outcome.add_argument(
        "-Z", "--failed-only", action="store_true", help="show only calls that fail"
    )
    outcome.add_argument(
        "--errors",
        action="store_true",
        help="at the end, count the calls that failed by call, error and path, and by thread, "
        "instead of a line for each call",
    )


def add_line_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-s",
        "--string-limit",
        default="32",
        metavar="BYTES",
        help="show so much of each string and buffer; paths are whole (default: %(default)s)",
    )
    group.add_argument(
        "-t",
        dest="clock",
        action="count",
        default=0,
        help="begin each line with the time at which the call began: -t seconds, -tt "
        "microseconds, -ttt seconds since 1970",
    )
    group.add_argument(
        "-r",
        "--relative-timestamps",
        action="store_true",
        help="begin each line with the time since the call of the line before",
    )
    group.add_argument(
        "-k", "--stack-trace", action="store_true", help="show the call stack of each call"
    )
    group.add_argument(
        "-T", "--syscall-times", action="store_true", help="show the time spent in each call"
    )


def add_descriptor_option(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-y",
        dest="descriptors",
        action="count",
        default=0,
        help="show what descriptors refer to, as in read(3</etc/passwd>, ...); -yy also the "
        "addresses of sockets and the numbers of devices",
    )


def run(arguments: argparse.Namespace) -> int:
    signals = Signals()  # first, so that no signal can leave anything behind
    stdio.obey(signals)
    traced, output = options_from(arguments)
    if arguments.explain:
        return explain(output.filter)
    with compiling(traced) as loader:
        from kwatch.commands.trace.run import Trace

        trace = Trace(traced, output, loader, signals)
    return trace.run()


def options_from(arguments: argparse.Namespace) -> tuple[TraceOptions, OutputOptions]:
    """Raises UsageError."""
    strings = strings_from(arguments)
    names = chosen_names(arguments)
    if arguments.errors and arguments.descriptors:
        raise UsageError("--errors shows no descriptors", "leave out -y or --errors")
    content = max(strings, 1)  # with none, buffers would be shown as addresses
    traced = recorded_calls(
        arguments, content, "" if arguments.descriptors else _kernel_code(arguments)
    )
    if arguments.descriptors:
        traced = replace(traced, trace=_with_followed(names))
    if arguments.errors:
        traced = replace(traced, io_uring=False)
    duration = arguments.duration
    output = output_options_from(
        arguments, parse_seconds(duration) if duration is not None else None
    )
    return traced, replace(output, descriptors=min(arguments.descriptors, 2), names=names)


def output_options_from(
    arguments: argparse.Namespace, duration_s: float | None = None
) -> OutputOptions:
    """Raises UsageError."""
    return OutputOptions(
        strings=strings_from(arguments),
        clock=min(arguments.clock, 3),
        relative=arguments.relative_timestamps,
        spent=arguments.syscall_times,
        stacks=arguments.stack_trace,
        errors=arguments.errors,
        failed_only=arguments.failed_only or arguments.errors,
        successful_only=arguments.successful_only,
        json=arguments.json,
        output=output_from(arguments),
        duration_s=duration_s,
        filter=filter_from(arguments),
    )


def _kernel_code(arguments: argparse.Namespace) -> str:
    """For --errors, the kernel drops calls that succeed. Raises UsageError."""
    expression = filter_from(arguments)
    if arguments.errors:
        from kwatch.syscalls.filter.expression import conjunction
        from kwatch.syscalls.filter.parser import parse

        failed = parse("error exists")
        expression = conjunction([expression, failed]) if expression is not None else failed
    return kernel_code_of(expression)


def _with_followed(names: frozenset[str] | None) -> frozenset[str] | None:
    """With the calls that tell what a descriptor refers to."""
    from kwatch.descriptors.descriptors import FOLLOWED

    return None if names is None else names | FOLLOWED


def strings_from(arguments: argparse.Namespace) -> int:
    """Bytes of each string. Raises UsageError."""
    text: str = arguments.string_limit
    if not text.isascii() or not text.isdigit() or int(text) > _MAX_STRINGS:
        raise UsageError(f"-s {text!r} is not a number of bytes up to {_MAX_STRINGS}", "try -s 256")
    return int(text)
