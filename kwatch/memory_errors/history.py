# SPDX-License-Identifier: Apache-2.0
"""What happened at each address during a batch, together with what the table knew before it."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import Index
from kwatch.memory_errors.block_table import BLOCK, BlockTable
from kwatch.memory_errors.suspects import Block, Use, block_of
from kwatch.wire.batches import chosen
from kwatch.wire.events import Batch, EventType

_ALLOC_COLUMNS = (
    "size",
    "alloc_ns",
    "alloc_stack",
    "alloc_tid",
    "alloc_allocator",
    "alloc_function",
)
_FREE_COLUMNS = ("free_ns", "free_stack", "free_tid", "free_allocator", "free_function")
_COLUMN = {"ns": "time_ns"}  # of an event; the others have the same name


class History:
    """`events`: at least one, by address and then by time. Indices below are theirs."""

    def __init__(self, events: Batch, table: BlockTable) -> None:
        self.events = events
        addresses = np.ascontiguousarray(events["address"])
        same = addresses[1:] == addresses[:-1]
        is_first = np.append(True, ~same)
        index = np.arange(len(events))
        self._is_alloc = events["type"] == EventType.ALLOC.value
        self._lasts = np.flatnonzero(np.append(~same, True))
        self._first = np.maximum.accumulate(np.where(is_first, index, 0))
        allocs = np.maximum.accumulate(np.where(self._is_alloc, index, -1))
        #: The last allocation at the address up to each event; -1 if there is none.
        self._alloc = np.where(allocs >= self._first, allocs, -1)
        self._follows_alloc = np.append(False, same & self._is_alloc[:-1]) & ~self._is_alloc
        begins = np.flatnonzero(is_first & ~self._is_alloc)
        self._is_known, self._stored = table.find(addresses[begins])
        self._place = np.full(len(events), -1)
        self._place[begins] = np.arange(len(begins))
        self._ends_stored = begins[self._is_known & (self._stored["free_ns"] == 0)]

    def of_dead(self) -> Index:
        """The releases at whose address no block is live."""
        is_good = self._follows_alloc | self._is_alloc
        is_good[self._ends_stored] = True
        dead: Index = np.flatnonzero(~is_good)
        return dead

    def mismatched(self, kinds: npt.NDArray[np.uint8], mixed: Collection[int] = ()) -> Index:
        """The releases of live blocks by a function of another kind, or of another allocator.

        `kinds`: of all functions. An allocator that is not known is no other one. Those of `mixed`
        match all others.
        """
        releases = np.append(np.flatnonzero(self._follows_alloc), self._ends_stored)
        places = self._place[self._ends_stored]
        functions, allocators = (
            np.append(
                self.events[name][np.flatnonzero(self._follows_alloc) - 1],
                self._stored[f"alloc_{name}"][places],
            )
            for name in ("function", "allocator")
        )
        theirs, ours = kinds[functions], kinds[self.events["function"][releases]]
        other = self.events["allocator"][releases]
        is_foreign = (allocators != other) & (allocators > 0) & (other > 0)
        is_wrong = (theirs != ours) | (is_foreign & (theirs == 0) & (ours == 0))
        if mixed and is_wrong.any():
            is_wrong &= ~np.isin(allocators, list(mixed)) & ~np.isin(other, list(mixed))
        found: Index = releases[is_wrong]
        return found

    def block_before(self, index: int) -> Block | None:
        """The last block at the address of a release, as it was before that."""
        alloc, first = int(self._alloc[index]), int(self._first[index])
        if alloc >= 0:
            event = self.events[alloc]
            freed = self.events[alloc + 1] if alloc + 1 < index else None
            return _block(Block(int(event["address"]), int(event["size"]), use_of(event)), freed)
        place = self._place[first]
        stored = block_of(self._stored[place]) if self._is_known[place] else None
        if index == first or (stored is not None and stored.freed is not None):
            return stored
        address = int(self.events[index]["address"])
        return _block(stored or Block(address, 0), self.events[first])

    def rows(self) -> Batch:
        """The rows that the table gets: how each address was left."""
        rows = np.zeros(len(self._lasts), BLOCK)
        rows["address"] = self.events["address"][self._lasts]
        alloc, first = self._alloc[self._lasts], self._first[self._lasts]
        has_alloc = alloc >= 0
        _fill(rows, _ALLOC_COLUMNS, self.events, alloc, has_alloc)
        place = self._place[first]
        continues = ~has_alloc
        continues[continues] = self._is_known[place[continues]]
        rows[continues] = chosen(self._stored, place[continues])
        is_freed = ~self._is_alloc[self._lasts] & (rows["free_ns"] == 0)
        frees = np.where(has_alloc, alloc + 1, first)
        _fill(rows, _FREE_COLUMNS, self.events, frees, is_freed)
        types = self.events["type"][frees[is_freed]]
        rows["by_realloc"][is_freed] = types == EventType.REALLOC_RELEASE.value
        return rows


def _fill(
    rows: Batch,
    columns: tuple[str, ...],
    events: Batch,
    at: Index,
    which: npt.NDArray[np.bool_],
) -> None:
    """Copies columns of the events at `at` into the rows of a mask."""
    found = chosen(events, at[which])
    for column in columns:
        name = column.rpartition("_")[2]
        rows[column][which] = found[_COLUMN.get(name, name)]


def use_of(event: np.void) -> Use:
    members = ("time_ns", "tid", "stack", "function", "allocator")
    return Use(*(int(event[member]) for member in members))


def _block(block: Block, freed: np.void | None) -> Block:
    """The block, freed by an event if there is one."""
    if freed is None:
        return block
    is_realloc = bool(freed["type"] == EventType.REALLOC_RELEASE.value)
    return Block(block.address, block.size, block.allocated, use_of(freed), is_realloc)
