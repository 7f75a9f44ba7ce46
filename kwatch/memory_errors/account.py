# SPDX-License-Identifier: Apache-2.0
"""The blocks of one process, live and freed, and the releases that do not fit them."""

from __future__ import annotations

import numpy as np

from kwatch.aggregate.block_events import block_events
from kwatch.aggregate.order import stable_argsort
from kwatch.aggregate.reallocs import match_reallocs
from kwatch.memory_errors.block_table import BlockTable
from kwatch.memory_errors.containers import Containers
from kwatch.memory_errors.history import History, use_of
from kwatch.memory_errors.suspects import Block, Suspect, Suspicion
from kwatch.wire.allocators import ALLOCATOR_FUNCTIONS
from kwatch.wire.batches import chosen
from kwatch.wire.events import Batch, EventType, Types

_KINDS = np.array([function.kind for function in ALLOCATOR_FUNCTIONS], np.uint8)
_MAX_SUSPECTS = 4096  # of a batch; there is no time for more


class FreeChecks:
    """`releases` counts what was released, `skipped` the suspects that were too many to look at.

    `mixed`: the numbers of allocators whose functions cannot be told apart.
    """

    def __init__(
        self, table: BlockTable | None = None, mixed: frozenset[int] = frozenset()
    ) -> None:
        self._table = table or BlockTable()
        self._suspects: list[Suspect] = []
        self.mixed = mixed
        self.releases = 0
        self.skipped = 0

    def add(self, batch: Batch, types: Types) -> None:
        is_block = (types >= EventType.ALLOC) & (types <= EventType.REALLOC_KEEP)
        if not is_block.all():
            batch, types = chosen(batch, is_block), types[is_block]
        if not len(batch):
            return
        if (types == EventType.REALLOC_KEEP).any():
            batch = self._without_failed(batch, types)
        self.releases += int(np.count_nonzero(batch["type"] != EventType.ALLOC))
        addresses = np.ascontiguousarray(batch["address"])
        history = History(chosen(batch, stable_argsort(addresses)), self._table)
        found = self._found(history)
        self._suspects += found
        self._table.put(history.rows())

    def take(self) -> list[Suspect]:
        """The suspects since the last time, in no order."""
        taken, self._suspects = self._suspects, []
        return taken

    def stack_ids(self) -> set[int]:
        """The stacks that a report may show."""
        return self._table.stack_ids()

    def fork(self) -> FreeChecks:
        """The account of a new child: it has the blocks."""
        return FreeChecks(self._table.copy(), self.mixed)

    def exec(self) -> None:
        """A new program has a new heap. What was suspected stays."""
        self._table = BlockTable()

    def _without_failed(self, batch: Batch, types: Types) -> Batch:
        """Leaves out releases by reallocs that failed, and restores those of earlier batches."""
        reallocs = match_reallocs(block_events(batch, types))
        orphans = chosen(batch, reallocs.orphans)
        found, rows = self._table.find(np.unique(orphans["address"]))
        rows = chosen(
            rows, found & (rows["by_realloc"] > 0) & np.isin(rows["free_tid"], orphans["tid"])
        )
        for name in ("free_ns", "free_stack", "free_tid", "free_allocator", "free_function"):
            rows[name] = 0
        rows["by_realloc"] = 0
        self._table.put(rows)
        return chosen(batch, reallocs.stands)

    def _found(self, history: History) -> list[Suspect]:
        of_dead, mismatched = history.of_dead(), history.mismatched(_KINDS, self.mixed)
        self.skipped += max(len(of_dead) - _MAX_SUSPECTS, 0)
        of_dead = of_dead[:_MAX_SUSPECTS]
        containers = Containers(history.events, self._table, of_dead) if len(of_dead) else None
        found = []
        for index in of_dead.tolist():
            assert containers is not None
            outer = containers.find(history.events[index])
            block = outer or history.block_before(index)
            suspicion = Suspicion.INSIDE if outer else Suspicion.FREED
            found.append(_suspect(suspicion if block else Suspicion.UNKNOWN, history, index, block))
        for index in mismatched[:_MAX_SUSPECTS].tolist():
            block = history.block_before(index)
            found.append(_suspect(Suspicion.MISMATCHED, history, index, block))
        return found


def _suspect(suspicion: Suspicion, history: History, index: int, block: Block | None) -> Suspect:
    event = history.events[index]
    is_realloc = bool(event["type"] == EventType.REALLOC_RELEASE.value)
    address, chunk = int(event["address"]), int(event["size"])
    return Suspect(suspicion, address, use_of(event), chunk, is_realloc, block)
