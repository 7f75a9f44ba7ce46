# SPDX-License-Identifier: Apache-2.0
"""The options that select the allocator functions to probe, and how."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from kwatch.errors import UsageError
from kwatch.model.options import Returns


class Probed(NamedTuple):
    """Arguments for `TraceOptions`, under the same names."""

    alloc_prefixes: tuple[str, ...]
    returns: Returns
    perf_uprobes: bool


def add_probe_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--alloc-prefix",
        action="append",
        default=[],
        metavar="PREFIX",
        help="also probe allocator functions named PREFIX + malloc, PREFIX + free, ...",
    )
    group.add_argument(
        "--returns",
        choices=[each.value for each in Returns],
        default=Returns.AUTO.value,
        help="catch the returns of allocator functions with a return `probe`, which changes the "
        "return address on the stack, or at `ret` instructions, which costs more on x86-64 "
        "(default: ret where a return probe would disturb the allocator)",
    )
    group.add_argument(
        "--perf-uprobes",
        action="store_true",
        help="probe through perf events: this also sees the heap calls of children of vfork(), and "
        "frees children that are not traced from the probes, but kwatch ends seconds later",
    )


def probed_from(arguments: argparse.Namespace) -> Probed:
    """Raises UsageError."""
    refuse_empty("--alloc-prefix", arguments.alloc_prefix)
    prefixes, returns = tuple(arguments.alloc_prefix), Returns(arguments.returns)
    return Probed(prefixes, returns, arguments.perf_uprobes)


def refuse_empty(option: str, names: list[str]) -> None:
    """Raises UsageError. A name is empty if a shell's variable is not set."""
    if "" in names:
        raise UsageError(f"{option} '' is not a name", f"give one, or drop {option}")
