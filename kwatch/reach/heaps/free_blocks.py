# SPDX-License-Identifier: Apache-2.0
"""Tells free blocks that look as if in use, those of tcaches and fastbins, from live ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kwatch.aggregate.order import U64
from kwatch.reach.heaps.blocks import Bools, choose, is_in
from kwatch.reach.heaps.fastbins import FastBins
from kwatch.reach.heaps.layouts import HEADER
from kwatch.reach.heaps.pieces import ArenaPieces
from kwatch.reach.heaps.spans import Reader
from kwatch.reach.heaps.tcache import (
    Caches,
    find_caches,
    follow_lists,
    linked,
    may_be_mapped,
    revealed,
)
from kwatch.reach.heaps.window import Marked

_LOOKS = 2  # before a block with a key but without a list counts as live
_MAX_CACHED = 127  # blocks in a list, up to 2.29


@dataclass(frozen=True, slots=True)
class FreeBlocks:
    """Sorted addresses. `unsure`: blocks that are live or free; `caches`: the tcaches."""

    free: U64
    unsure: U64
    caches: U64
    unwalked: tuple[str, ...]


def find_free(reader: Reader, arenas: Sequence[ArenaPieces], starts: U64, sizes: U64) -> FreeBlocks:
    """`starts`, sorted, and `sizes`: all blocks that seem to be in use."""
    marked = Marked.joined(chain.marked for arena in arenas for chain in arena.chains)
    likely = _among(marked.caches + np.uint64(HEADER), starts)
    likely = np.union1d(likely, starts[may_be_mapped(sizes)])
    caches = find_caches(reader, likely, sizes[np.searchsorted(starts, likely)])
    protected = caches.random_key(np.unique(marked.keys)) is not None
    cached, perhaps_cached = _cached(reader, marked, starts, caches)
    free, unsure, unwalked = [cached], [perhaps_cached], []
    for arena in arenas:
        found, torn = FastBins(reader, arena.is_inside).blocks(arena.arena)
        free.append(np.array(sorted(found), np.uint64))
        if torn:
            unwalked.append(f"fastbins of {arena.name}, which changed meanwhile")
            small = _inside(arena, starts, sizes, np.array(torn, np.uint64))
            unsure.append(_perhaps_fast(reader, small, protected))
    sure = _among(np.concatenate(free), starts)
    others = _among(np.concatenate(unsure), starts)
    others = others[~is_in(others, sure)]
    return FreeBlocks(sure, others, caches.structs, tuple(unwalked))


def _among(found: U64, starts: U64) -> U64:
    unique = np.unique(found)
    return unique[is_in(unique, starts)]


def _cached(reader: Reader, marked: Marked, starts: U64, caches: Caches) -> tuple[U64, U64]:
    """The cached blocks, and those that have the key though no list seems to lead to them.

    A thread that ends leaves the key in its cached blocks, and malloc() does not remove it. Such a
    block is live if a second and a third look find no list either.
    """
    if not len(caches.heads):
        return caches.heads, caches.heads
    key = caches.random_key(np.unique(marked.keys))
    keys = caches.structs if key is None else np.array([key], np.uint64)
    if key is not None:
        chosen = marked.keys == keys[0]
        blocks, links = marked.addresses[chosen] + np.uint64(HEADER), marked.links[chosen]
    elif caches.are_their_own_keys:
        blocks, links = choose(reader, starts, lambda _, __, second: is_in(second, keys))
    else:
        blocks = follow_lists(reader, caches.heads, starts, _MAX_CACHED)
        return blocks, blocks[:0]
    in_list = linked(blocks, links, caches.heads)
    live = _are_live(reader, caches, keys, blocks, in_list)
    return blocks[in_list], blocks[~in_list & ~live]


def _are_live(reader: Reader, caches: Caches, keys: U64, blocks: U64, in_list: Bools) -> Bools:
    live = ~in_list
    for _ in range(_LOOKS):
        if not live.any():
            break
        words = reader.headers(blocks, 2)
        heads = caches.heads_of_now(reader)
        live &= is_in(words[:, 1], keys) & ~linked(blocks, words[:, 0], heads)
    return live


def _inside(arena: ArenaPieces, starts: U64, sizes: U64, usable: U64) -> U64:
    """The blocks of an arena that have one of these sizes."""
    inside = np.zeros(len(starts), bool)
    for chain in arena.chains:
        first, last = np.searchsorted(starts, np.array([chain.start, chain.end], np.uint64))
        inside[first:last] = True
    return starts[inside & np.isin(sizes, usable)]


def _perhaps_fast(reader: Reader, small: U64, protected: bool) -> U64:
    """Blocks that have the form of those in a fastbin. `protected`: whether links are for sure."""
    header = np.uint64(HEADER)

    def has_form(blocks: U64, links: U64, _: U64) -> Bools:
        chunks = revealed(links, blocks)
        form: Bools = (chunks == 0) | is_in(chunks + header, small)
        return form if protected else form | (links == 0) | is_in(links + header, small)

    return choose(reader, small, has_form)[0]
