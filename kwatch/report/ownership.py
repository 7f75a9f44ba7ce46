# SPDX-License-Identifier: Apache-2.0
"""Adds to named stacks whose their blocks are, and where others of their blocks are freed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kwatch.model.snapshot import Release, ReleaseCount, StackStats
from kwatch.ownership.owner import block_owner
from kwatch.ownership.releases import MAX_NAMED, expected_release, release_wrappers
from kwatch.ownership.wrappers import Wrappers
from kwatch.report.attribution import StackSymbolizer
from kwatch.symbols.stack import Stack

#: By stack of allocations: the frees of its blocks, most blocks first.
Releases = Mapping[int, Sequence[tuple[ReleaseCount, Stack]]]


def with_owners(
    rows: Sequence[StackStats], program: str, wrappers: Wrappers
) -> tuple[StackStats, ...]:
    found = []
    for row in rows:
        owner, module = block_owner(row.frames, program, wrappers.__contains__) or (None, "")
        found.append(replace(row, owner=owner, owner_module=module))
    return tuple(found)


def expected_releases(
    releases: Releases, symbolizer: StackSymbolizer, program: str
) -> dict[int, Release]:
    """The usual place of the frees, for each stack that has one."""
    named = {
        alloc: list(
            zip(
                [count for count, _ in found[:MAX_NAMED]],
                symbolizer.frames([stack for _, stack in found[:MAX_NAMED]]),
                strict=True,
            )
        )
        for alloc, found in releases.items()
    }
    wrappers = release_wrappers(named.values(), program)
    expected = {
        alloc: expected_release(
            found, program, sum(count.blocks for count, _ in releases[alloc]), wrappers
        )
        for alloc, found in named.items()
    }
    return {alloc: release for alloc, release in expected.items() if release is not None}
