# SPDX-License-Identifier: Apache-2.0
"""Says what the scan of a process that is not traced has found."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from kwatch.aggregate.order import Index
from kwatch.commands.leaks.allocators import unlisted_blocks
from kwatch.model.leaks import Block, BlockGroup, LeakReport
from kwatch.model.process import ProcessFacts
from kwatch.model.reach import HeapReach, Reach
from kwatch.model.snapshot import Verdict
from kwatch.reach.block_table import Table
from kwatch.reach.hints import Hints
from kwatch.reach.memory import TargetMemory
from kwatch.reach.settle import Settled
from kwatch.report.reach_text import gaps, held_text, lost_text, unproven_text
from kwatch.targets.processes import utc_now

_MAX_LISTED = 16
_NO_TYPES = [""]


class Wanted(NamedTuple):
    """How many groups, every block, and text from the blocks."""

    top: int
    with_blocks: bool = False
    with_content: bool = False


def leak_report(facts: ProcessFacts, found: Settled, wanted: Wanted) -> LeakReport:
    """Raises KwatchError if the process has ended."""
    gap = "" if found.reach.lost.blocks else unlisted_blocks(facts.pid, found.reach)
    word, reason = verdict(found.reach, gap)
    return LeakReport(
        time=utc_now(),
        process=facts,
        reach=found.reach,
        groups=_groups_with_hints(facts, found, wanted),
        verdict=word,
        reason=reason,
        blocks=blocks(found.table) if wanted.with_blocks else None,
    )


def verdict(reach: HeapReach, gap: str) -> tuple[Verdict, str]:
    """The verdict on a scan, and the reason in one sentence. `gap`: which blocks it did not see."""
    if reach.lost.blocks:
        doubt = unproven_text(reach)
        return Verdict.UNSURE if doubt else Verdict.LEAK, lost_text(reach.lost) + doubt
    if not reach.is_walked:
        return Verdict.UNSURE, gap
    reasons = [*gaps(reach), *filter(None, [gap])]
    return (Verdict.UNSURE, "; ".join(reasons)) if reasons else (Verdict.CLEAN, held_text(reach))


def _groups_with_hints(
    facts: ProcessFacts, found: Settled, wanted: Wanted
) -> tuple[BlockGroup, ...]:
    rows = unheld(found.table)
    try:
        with closing(TargetMemory(facts.pid)) as memory:
            hints = Hints(memory, found.last.scan.regions)
            listed = groups(rows, *hints.types(rows["address"]))[: wanted.top]
            if not wanted.with_content:
                return listed
            return tuple(
                replace(group, content=hints.text(group.addresses[0], group.size))
                for group in listed
            )
    except OSError:  # it has ended since the scan
        return groups(rows, np.zeros(len(rows), np.intp), _NO_TYPES)[: wanted.top]


def unheld(table: Table) -> Table:
    """The rows of a table of dtype SCANNED whose blocks are not reachable."""
    found: Table = table[table["reach"] != Reach.REACHABLE]
    return found


def groups(rows: Table, numbers: Index, types: list[str]) -> tuple[BlockGroup, ...]:
    """Rows of dtype SCANNED by class, size and type: the lost ones first, then most bytes.

    `numbers`: the index in `types` for each row.
    """
    keys = np.column_stack((rows["reach"], rows["size"], numbers.astype(np.uint64)))
    found, group_of, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    members = np.argsort(group_of.reshape(-1), kind="stable")
    ends = np.cumsum(counts)
    listed = [
        BlockGroup(
            class_name=Reach(reach).name.lower(),
            size=size,
            blocks=count,
            bytes=size * count,
            addresses=tuple(rows["address"][members[end - count : end][:_MAX_LISTED]].tolist()),
            type=types[number],
        )
        for (reach, size, number), count, end in zip(
            found.tolist(), counts.tolist(), ends.tolist(), strict=True
        )
    ]
    order = {Reach(reach).name.lower(): -reach for reach in Reach}
    return tuple(sorted(listed, key=lambda group: (order[group.class_name], -group.bytes)))


def blocks(table: Table) -> tuple[Block, ...]:
    """The rows of a table of dtype SCANNED."""
    names = [reach.name.lower() for reach in Reach]
    return tuple(
        Block(address, size, names[reach], exact)
        for address, size, reach, _, exact in table.tolist()
    )
