# SPDX-License-Identifier: Apache-2.0
"""Finds invalid releases of heap blocks when they happen: blocks that are freed twice, addresses
inside a block or outside the heap, and functions that do not match.

The program needs no preparation and is not changed. An error is printed with the stacks of this
release, of the first one and of the allocation. What cannot be proved is counted, not reported."""

from __future__ import annotations

import argparse

from kwatch.commands.check.options import CheckOptions
from kwatch.commands.output_options import add_output_options, buffer_from, output_from
from kwatch.commands.probe_options import add_probe_options, probed_from
from kwatch.commands.startup import compiling
from kwatch.commands.target_options import add_target_options, has_target, targets_from
from kwatch.errors import UsageError
from kwatch.model.options import Releases, TraceOptions
from kwatch.system import stdio
from kwatch.system.signals import Signals
from kwatch.units import parse_seconds

SUMMARY = "find double, invalid and mismatched frees when they happen"

TAKES_COMMAND = True

IF_INTERRUPTED = "; nothing was checked"

USAGE = "kwatch check TARGET [WHAT] [OUTPUT] [-- COMMAND [ARG ...]]"

EXAMPLES = """\
examples:
  kwatch check -- ./app             check a command from its first instruction
  kwatch check --pid 1234           check a running process until it ends, or ^C
  kwatch check --fail-on-error -f -- make test
                                    fail a build whose tests misuse the heap

exit status: that of the command; 3 with --fail-on-error if there was an error
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_options(parser, "an error, because the probes cost every allocation")
    what = parser.add_argument_group("what")
    what.add_argument(
        "--no-free-stacks",
        action="store_true",
        help="of a free, record only the caller: each free costs less",
    )
    add_probe_options(what)
    what.add_argument("--duration", metavar="SECONDS", help="stop after this time")
    output = parser.add_argument_group("output")
    add_output_options(output)
    output.add_argument(
        "--fail-on-error", action="store_true", help="exit with status 3 if there was an error"
    )


def run(arguments: argparse.Namespace) -> int:
    signals = Signals()  # first, so that no signal can leave anything behind
    stdio.obey(signals)
    traced, options = options_from(arguments)
    with compiling(traced) as loader:
        from kwatch.commands.check.run import Check

        check = Check(traced, options, loader, signals)
    return check.run()


def options_from(arguments: argparse.Namespace) -> tuple[TraceOptions, CheckOptions]:
    """Raises UsageError."""
    if not has_target(arguments):
        raise UsageError("kwatch check needs a target", "add --pid PID, --comm NAME or -- COMMAND")
    traced = TraceOptions(
        **targets_from(arguments)._asdict(),
        syscalls=False,
        releases=Releases.NEVER,
        checks=True,
        free_stacks=not arguments.no_free_stacks,
        **probed_from(arguments)._asdict(),
        buffer=buffer_from(arguments),
    )
    duration = arguments.duration
    options = CheckOptions(
        json=arguments.json,
        output=output_from(arguments),
        duration_s=parse_seconds(duration) if duration is not None else None,
        fail_on_error=arguments.fail_on_error,
    )
    return traced, options
