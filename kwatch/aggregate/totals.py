# SPDX-License-Identifier: Apache-2.0
"""What each stack has allocated since the attach, whether freed or not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.blocks import Blocks
from kwatch.aggregate.distinct import distinct
from kwatch.aggregate.order import U64
from kwatch.model.snapshot import StackTotals

_I64 = npt.NDArray[np.int64]


class AllocTotals:
    """Blocks and bytes by stack, in arrays sorted by stack id: 24 bytes per stack."""

    def __init__(self) -> None:
        self._stacks: U64 = np.empty(0, np.uint64)
        self._totals: _I64 = np.empty((2, 0), np.int64)

    def add(self, stacks: U64, sizes: U64, counts: _I64 | None = None) -> None:
        """Adds one allocation for each element, or with `counts` so many, of `sizes` in total."""
        if not len(stacks):
            return
        found, totals = _by_stack(stacks, sizes, counts)
        at = self._stacks.searchsorted(found)
        known = np.zeros(len(found), bool)
        within = at < len(self._stacks)
        known[within] = self._stacks[at[within]] == found[within]
        self._totals[:, at[known]] += totals[:, known]
        if not known.all():
            self._stacks = np.insert(self._stacks, at[~known], found[~known])
            self._totals = np.insert(self._totals, at[~known], totals[:, ~known], axis=1)

    def with_live(self, live: Blocks) -> list[StackTotals]:
        """Every stack that has allocated or that has live blocks, without frames.

        A stack whose blocks were inherited in a fork may have allocated nothing.
        """
        holding, held = _by_stack(live.stacks, live.sizes)
        both = np.union1d(self._stacks, holding)
        columns = np.zeros((4, len(both)), np.int64)
        columns[:2, both.searchsorted(self._stacks)] = self._totals
        columns[2:, both.searchsorted(holding)] = held
        rows = zip(both.tolist(), *columns.tolist(), strict=True)
        return [StackTotals(*row) for row in rows]


def _by_stack(stacks: U64, sizes: U64, counts: _I64 | None = None) -> tuple[U64, _I64]:
    """The distinct stacks, sorted, with a row of their block counts and a row of their bytes."""
    found, numbers = distinct(stacks)
    # Floating point is exact here: no batch has 2**53 blocks.
    blocks = np.bincount(numbers, weights=counts, minlength=len(found)).astype(np.int64)
    # Floating point is exact here: no batch has 2**53 bytes.
    size = np.bincount(numbers, weights=sizes, minlength=len(found))
    order = found.argsort()
    return found[order], np.stack([blocks, size.astype(np.int64)])[:, order]
