# SPDX-License-Identifier: Apache-2.0
"""The options that select the processes to trace."""

from __future__ import annotations

import argparse
import re
from typing import NamedTuple

from kwatch.errors import UsageError
from kwatch.wire.maps import MAX_PATTERNS


class Targets(NamedTuple):
    """Arguments for `TraceOptions`, under the same names."""

    pids: tuple[int, ...]
    comms: tuple[str, ...]
    command: tuple[str, ...]
    follow: bool


def add_target_options(parser: argparse.ArgumentParser, without: str) -> None:
    """`without`: what the command traces without a target."""
    group = parser.add_argument_group("target", f"without one: {without}")
    group.add_argument(
        "-p",
        "--pid",
        action="append",
        default=[],
        metavar="PID[,PID]",
        help="trace running processes",
    )
    group.add_argument(
        "--comm",
        action="append",
        default=[],
        metavar="GLOB",
        help="trace every process whose comm or executable name matches, now or later",
    )
    group.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="trace the children that the targets fork from now on",
    )


def has_target(arguments: argparse.Namespace) -> bool:
    return bool(arguments.pid or arguments.comm or arguments.command)


def targets_from(arguments: argparse.Namespace) -> Targets:
    """Raises UsageError."""
    from kwatch.targets.globs import check

    if len(arguments.comm) > MAX_PATTERNS:
        raise UsageError(f"more than {MAX_PATTERNS} --comm", "use a glob that matches several")
    if arguments.follow and not has_target(arguments):
        raise UsageError(
            "--follow needs a target; without one, every process is traced",
            "drop it, or add --pid PID, --comm NAME or -- COMMAND",
        )
    comms = tuple(check(glob) for glob in arguments.comm)
    return Targets(pids_from(arguments.pid), comms, tuple(arguments.command), arguments.follow)


def pids_from(values: list[str]) -> tuple[int, ...]:
    """The values of --pid, each one pid or several. Raises UsageError."""
    found = []
    for text in re.split(r"[,\s]+", ",".join(values).strip()) if values else ():  # as pidof prints
        if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 22:
            raise UsageError(
                f"--pid {text!r} is not a process id",
                "give numbers below 4,194,304: --pid 12,34",
            )
        found.append(int(text))
    return tuple(dict.fromkeys(found))
