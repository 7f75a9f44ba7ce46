# SPDX-License-Identifier: Apache-2.0
"""The options that choose system calls: the set of calls and the filter."""

from __future__ import annotations

import argparse

from kwatch.commands.output_options import buffer_from
from kwatch.commands.target_options import targets_from
from kwatch.errors import ExitCode, UsageError
from kwatch.model.options import TraceOptions
from kwatch.syscalls.filter.expression import Expression
from kwatch.system import stdio

#: The call whose name chooses the requests of io_uring, too.
SUBMITS = "io_uring_enter"


def add_call_options(group: argparse._ArgumentGroup, verb: str) -> None:
    """`verb`: what the command does with a call."""
    group.add_argument(
        "-e",
        dest="expression",
        metavar="trace=SET",
        help=f"{verb} these system calls: names, %%class, /regex and !, as in strace",
    )
    group.add_argument(
        "--filter",
        metavar="EXPRESSION",
        help=f"{verb} only calls for which this is true, such as `comm = nginx and error exists`; "
        "see docs/filters.md",
    )


def add_explain_option(group: argparse._ArgumentGroup, verb: str) -> None:
    group.add_argument(
        "--explain",
        action="store_true",
        help=f"say which parts of the filter the kernel decides, and {verb} nothing",
    )


def chosen_names(arguments: argparse.Namespace) -> frozenset[str] | None:
    """The names of the calls of -e; None for all. Raises UsageError."""
    from kwatch.syscalls.select import parse_trace

    expression = arguments.expression
    if expression is None:
        return None
    chosen = parse_trace(expression)
    if not chosen:
        raise UsageError(f"-e {expression!r} leaves nothing to trace", "name at least one call")
    return chosen


def recorded_calls(arguments: argparse.Namespace, content: int, filter_code: str) -> TraceOptions:
    """The options of a session that records each call, of the processes and calls that were chosen.

    `content`: bytes of each buffer. Raises UsageError.
    """
    return TraceOptions(
        **targets_from(arguments)._asdict(),
        heap=False,
        heap_stacks=False,
        call_stacks=arguments.stack_trace,
        record=True,
        io_uring=wants_requests(arguments),
        filter_code=filter_code,
        content=content,
        trace=chosen_names(arguments),
        buffer=buffer_from(arguments),
    )


def filter_from(arguments: argparse.Namespace) -> Expression | None:
    """Raises UsageError."""
    if arguments.filter is None:
        return None
    from kwatch.syscalls.filter.parser import parse

    return parse(arguments.filter)


def wants_requests(arguments: argparse.Namespace) -> bool:
    """Whether requests of io_uring go with the calls: those of -e have io_uring_enter among them.

    A filter is about calls.
    """
    names = chosen_names(arguments)
    return arguments.filter is None and (names is None or SUBMITS in names)


def kernel_code_of(expression: Expression | None) -> str:
    """C of what the kernel decides; empty if that is nothing."""
    if expression is None:
        return ""
    from kwatch.syscalls.filter.kernel_code import kernel_code
    from kwatch.syscalls.filter.split import split

    parts = split(expression)
    return kernel_code(parts) if parts.entry is not None or parts.exit is not None else ""


def explain(expression: Expression | None) -> int:
    """Says who decides what. Raises UsageError."""
    if expression is None:
        raise UsageError("--explain has no filter to explain", "add --filter EXPRESSION")
    from kwatch.syscalls.filter.explain import explain

    stdio.write(explain(expression) + "\n")
    return ExitCode.DONE
