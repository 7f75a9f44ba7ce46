# SPDX-License-Identifier: Apache-2.0
"""The options for the output and its formats, and for the size of the rings."""

from __future__ import annotations

import argparse
import os

from kwatch.errors import UsageError
from kwatch.kernel.cpus import default_ring_size
from kwatch.sinks.formats import PROFILE_FORMATS
from kwatch.units import parse_size

_MIN_BUFFER, _MAX_BUFFER = 4096, 1 << 30


def add_output_options(group: argparse._ArgumentGroup) -> None:
    add_format_options(group)
    add_buffer_option(group)


def add_format_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--json", action="store_true", help="print one JSON object per line")
    group.add_argument(
        "-o", "--output", metavar="FILE", help="write to FILE (default: standard output)"
    )


def add_buffer_option(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--buffer",
        metavar="SIZE",
        help="set the ring size per CPU (default: 8M; less with many CPUs)",
    )


def add_profile_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "profiles of the heap", "all stacks of all processes, written at each interval and the end"
    )
    for profile_format in PROFILE_FORMATS:
        group.add_argument(f"--{profile_format.name}", metavar="FILE", help=profile_format.help)


def output_from(arguments: argparse.Namespace) -> str | None:
    """The file for reports; None for standard output."""
    return None if arguments.output == "-" else arguments.output


def profiles_from(arguments: argparse.Namespace) -> dict[str, str]:
    """The path of each requested profile, by the name of its format. Raises UsageError."""
    given = {each.name: getattr(arguments, each.name) for each in PROFILE_FORMATS}
    for name, path in given.items():
        if path == "-":
            raise UsageError(
                f"--{name} cannot write to standard output", "give a file: reports go there"
            )
    return {name: path for name, path in given.items() if path is not None}


def buffer_from(arguments: argparse.Namespace) -> int:
    """The ring size in bytes, rounded up to a power of two and a page. Raises UsageError."""
    if arguments.buffer is None:
        return default_ring_size()
    size = parse_size(arguments.buffer)
    if not _MIN_BUFFER <= size <= _MAX_BUFFER:
        raise UsageError(f"--buffer {arguments.buffer!r} is outside 4K to 1G", "try --buffer 16M")
    return max(os.sysconf("SC_PAGESIZE"), 1 << (size - 1).bit_length())
