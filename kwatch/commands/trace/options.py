# SPDX-License-Identifier: Apache-2.0
"""The options of `kwatch trace` that decide which calls are shown, how, and where."""

from __future__ import annotations

from dataclasses import dataclass

from kwatch.syscalls.filter.expression import Expression


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """`strings`: bytes of each string. `clock`: 0 to 3, how often -t was given.

    `errors`: sum up what fails, instead of lines.
    `descriptors`: 0 to 2, how often -y was given; more calls are traced for it than are shown,
    `names`, None for all.
    """

    strings: int = 32
    clock: int = 0
    relative: bool = False
    spent: bool = False
    errors: bool = False
    descriptors: int = 0
    names: frozenset[str] | None = None
    stacks: bool = False
    failed_only: bool = False
    successful_only: bool = False
    json: bool = False
    output: str | None = None
    duration_s: float | None = None
    filter: Expression | None = None
