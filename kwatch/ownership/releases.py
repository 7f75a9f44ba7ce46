# SPDX-License-Identifier: Apache-2.0
"""Where blocks are expected to be freed, learnt from the frees of others of the same stack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain

from kwatch.model.c_library import is_c_library
from kwatch.model.frame import Frame
from kwatch.model.frame_roles import is_application, is_in_no_file, is_standard
from kwatch.model.snapshot import Release, ReleaseCount

#: Stacks of frees that are named for each stack of allocations, the most frequent ones.
MAX_NAMED = 8

#: A function that frees what so many stacks allocated, for so many callers, frees for others.
MIN_STACKS, MIN_CALLERS = 4, 4

#: Returns for each stack id the id of the stack with which it is counted.
GroupStacks = Callable[[Sequence[int]], Sequence[int]]


def candidates(
    counts: Iterable[ReleaseCount], wanted: Collection[int], same: GroupStacks
) -> dict[int, list[ReleaseCount]]:
    """The releases of the blocks of each wanted stack that has some, most blocks first."""
    counts = list(counts)
    allocs, releases = same([row.alloc for row in counts]), same([row.release for row in counts])
    merged: dict[int, dict[int, ReleaseCount]] = {}
    for row, alloc, release in zip(counts, allocs, releases, strict=True):
        if alloc not in wanted:
            continue
        known = merged.setdefault(alloc, {}).get(release, ReleaseCount(alloc, release, 0, 0))
        blocks, ns = known.blocks + row.blocks, known.lifetime_ns + row.lifetime_ns
        merged[alloc][release] = ReleaseCount(alloc, release, blocks, ns)
    return {
        alloc: sorted(rows.values(), key=lambda row: (-row.blocks, row.release))
        for alloc, rows in merged.items()
    }


#: Named stacks of the frees of one stack's blocks, most blocks first.
Named = Sequence[tuple[ReleaseCount, tuple[Frame, ...]]]
#: A function: its module and its name.
Function = tuple[str, str]


def release_wrappers(all_found: Iterable[Named], program: str) -> frozenset[Function]:
    """Functions like `xfree`, which free for many callers what many stacks have allocated."""
    callers: dict[Function, set[Function]] = {}
    allocs: dict[Function, set[int]] = {}
    for count, frames in chain.from_iterable(all_found):
        at = _deciding(frames, program)
        if len(frames) > at + 1:
            function = _function(frames[at])
            allocs.setdefault(function, set()).add(count.alloc)
            callers.setdefault(function, set()).add(_function(frames[at + 1]))
    return frozenset(
        function
        for function, found in allocs.items()
        if len(found) >= MIN_STACKS and len(callers[function]) >= MIN_CALLERS
    )


def expected_release(
    found: Named, program: str, of: int, wrappers: Collection[Function] = ()
) -> Release | None:
    """The place that frees most of the blocks, from named stacks, most blocks first.

    `wrappers`: functions that only free for others. `of`: all frees with a stack, including those
    whose stack was not named. Stacks that differ only in who called the place count together.
    """
    places = [_deciding(frames, program, wrappers) for _, frames in found]
    totals: Counter[object] = Counter()
    keys = [_key(frames, at) for (_, frames), at in zip(found, places, strict=True)]
    for (row, frames), key in zip(found, keys, strict=True):
        totals[key] += row.blocks if frames else 0
    if not totals or not max(totals.values()):
        return None
    best = totals.most_common(1)[0][0]
    rows = [row for (row, _), key in zip(found, keys, strict=True) if key == best]
    first = keys.index(best)
    blocks = sum(row.blocks for row in rows)
    mean_s = sum(row.lifetime_ns for row in rows) / blocks / 1e9
    return Release(found[first][1], blocks, of, round(mean_s, 9), places[first])


def _deciding(frames: Sequence[Frame], program: str, wrappers: Collection[Function] = ()) -> int:
    """The index of the frame that says where a stack frees: as a reader of the program looks."""
    for at, frame in enumerate(frames):
        if _function(frame) in wrappers:
            continue
        if is_application(frame, program) and not is_standard(frame):
            return at
    for at, frame in enumerate(frames):
        if not is_c_library(frame) and not is_standard(frame) and not is_in_no_file(frame):
            return at
    return 0


def _function(frame: Frame) -> Function:
    return frame.module, frame.symbol or hex(frame.address)


def _key(frames: Sequence[Frame], at: int) -> object:
    """What frees at one place have in common; nothing without frames."""
    if not frames:
        return None
    frame = frames[at]
    return (frame.module, frame.symbol, frame.offset, frame.inlined)
