# SPDX-License-Identifier: Apache-2.0
"""Sums what was allocated between two marks."""

from __future__ import annotations

from collections.abc import Sequence

from kwatch.model.mark import Mark, SinceMark
from kwatch.model.reach import BlockCounts
from kwatch.model.snapshot import StackStats


def since_mark(mark: Mark, stacks: Sequence[StackStats]) -> SinceMark:
    """`stacks`: all stacks with outstanding blocks since the mark before."""
    found = [stack.reach for stack in stacks if stack.reach is not None]
    reach = BlockCounts(
        definite=sum(each.definite for each in found),
        indirect=sum(each.indirect for each in found),
        possible=sum(each.possible for each in found),
        reachable=sum(each.reachable for each in found),
        unknown=sum(each.unknown for each in found),
    )
    return SinceMark(
        mark.seconds,
        sum(stack.blocks for stack in stacks),
        sum(stack.bytes for stack in stacks),
        reach if found else None,
    )
