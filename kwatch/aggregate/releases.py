# SPDX-License-Identifier: Apache-2.0
"""Which stack has released the blocks of which stack, and after how long."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.distinct import distinct
from kwatch.aggregate.order import U64
from kwatch.model.snapshot import ReleaseCount
from kwatch.wire.events import STACK_IDS

#: Pairs of stacks of one process that are counted; further ones are left out.
MAX_PAIRS = 8192


class ReleaseTotals:
    """Only releases whose stack was taken count."""

    def __init__(self) -> None:
        self._totals: dict[tuple[int, int], list[int]] = {}  # by stacks: blocks, nanoseconds

    def add(
        self,
        allocs: U64,
        releases: U64,
        lifetimes: U64,
        counts: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Adds blocks: the stacks that began and ended each, and its lifetime in ns.

        With `counts`, an element is about so many blocks, and their lifetimes are added up.
        """
        with_stack = releases >= STACK_IDS
        if not with_stack.any():
            return
        if not with_stack.all():
            allocs, releases = allocs[with_stack], releases[with_stack]
            lifetimes = lifetimes[with_stack]
            counts = counts[with_stack] if counts is not None else None
        begun, begun_at = distinct(allocs)
        ended, ended_at = distinct(releases)
        pairs, numbers = distinct((begun_at * len(ended) + ended_at).astype(np.uint64))
        # Floating point is exact enough: a chunk has 2**18 blocks.
        blocks = np.bincount(numbers, weights=counts, minlength=len(pairs)).tolist()
        ns = np.bincount(numbers, weights=lifetimes, minlength=len(pairs)).tolist()
        for pair, count, total in zip(pairs.tolist(), blocks, ns, strict=True):
            alloc, release = divmod(pair, len(ended))
            self._count((int(begun[alloc]), int(ended[release])), int(count), int(total))

    def _count(self, stacks: tuple[int, int], blocks: int, ns: int) -> None:
        known = self._totals.get(stacks)
        if known is not None:
            known[0] += blocks
            known[1] += ns
        elif len(self._totals) < MAX_PAIRS:
            self._totals[stacks] = [blocks, ns]

    def counts(self) -> list[ReleaseCount]:
        return [ReleaseCount(*stacks, *totals) for stacks, totals in self._totals.items()]

    def by_alloc(self) -> dict[int, int]:
        """The number of releases by the stack that allocated."""
        found: dict[int, int] = {}
        for (alloc, _), (blocks, _) in self._totals.items():
            found[alloc] = found.get(alloc, 0) + blocks
        return found

    def stack_ids(self) -> set[int]:
        """The stacks that have released something."""
        return {release for _, release in self._totals}
