# SPDX-License-Identifier: Apache-2.0
"""By which path a block is held, and what holds a set of blocks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from harness.fake_memory import FakeMemory, heap, region, scanned, thread

from kwatch.reach.holders import Holder, Path, RegisterRoot, Step, WordRoot, who, why

HEAP = region(0x10000, 0x20000)
DATA = region(0x30000, 0x31000, path="/bin/program", inode=5)
STACK = region(0x40000, 0x41000, path="[stack]")
SP = 0x40100
A, B, C, D, E = (0x10000 + 0x100 * number for number in range(5))


class Story:
    """Blocks A to E of 64 bytes, and words."""

    def __init__(self, words: dict[int, int], **registers: int) -> None:
        self._memory = FakeMemory(words)
        self._scan = scanned(
            words,
            [HEAP, DATA, STACK],
            heap(dict.fromkeys((A, B, C, D, E), 64), [(HEAP.start, HEAP.end)]),
            thread(7, SP, **registers),
        )

    def why(self, address: int) -> Path | None:
        return why(self._scan, self._memory, address)

    def who(self, *blocks: int) -> list[Holder]:
        return who(self._scan, np.isin(self._scan.layout.starts, np.array(blocks, np.uint64)))


def test_a_global_holds_a_chain():
    story = Story({DATA.start + 16: A, A + 8: B, B + 24: C})
    root = WordRoot(DATA.start + 16, DATA)
    steps = (Step(A, 64, 0, 8), Step(B, 64, 0, 24), Step(C, 64, 0, None))
    assert story.why(C + 5) == Path(root, steps)


def test_a_long_path_by_starts_is_better_than_a_short_interior_one():
    story = Story({DATA.start: A, A: B, B: C, DATA.start + 8: C + 48})
    assert [step.address for step in story.why(C).steps] == [A, B, C]


def test_a_global_is_better_than_a_stack():
    story = Story({DATA.start: A, A: B, SP: B})
    assert story.why(B).root == WordRoot(DATA.start, DATA)


def test_interior_pointers_show_where_they_point():
    story = Story({DATA.start: A + 40, A: B + 8, A + 16: B})
    assert story.why(A).steps == (Step(A, 64, 40, None),)
    assert story.why(B).steps == (Step(A, 64, 40, 16), Step(B, 64, 0, None))


def test_a_stack_and_a_register_hold_blocks():
    story = Story({SP: A}, rbx=B)
    assert story.why(A) == Path(WordRoot(SP, STACK), (Step(A, 64, 0, None),))
    assert story.why(B) == Path(RegisterRoot(7, "rbx"), (Step(B, 64, None, None),))


@pytest.mark.parametrize("address", [B, A + 64, A - 1, 0])
def test_nothing_holds_it(address):
    assert Story({DATA.start: A, C: B}).why(address) is None


def test_holders_are_summed():
    story = Story({DATA.start: A, A: B, A + 8: C, D: E, SP: C})
    # D is lost and holds E; B and C are held by A
    assert story.who(B, C, E) == [Holder(None, 0, 2, 128), Holder(None, 3, 1, 64)]


def test_a_block_counts_for_what_holds_the_first_of_its_list():
    story = Story({DATA.start: A, A: B, B: C, C: B, SP: D})
    assert story.who(A, B, C, D, E) == [
        Holder(WordRoot(DATA.start, DATA), None, 3, 192),
        Holder(WordRoot(SP, STACK), None, 1, 64),
    ]
    assert story.who(B, C) == [Holder(None, 0, 2, 128)]


def test_a_global_counts_before_a_block_and_a_block_before_a_stack():
    story = Story({DATA.start: C, DATA.start + 8: A, A: C, A + 8: B, SP: B})
    root = WordRoot(DATA.start, DATA)
    assert sorted(story.who(B, C), key=str) == sorted(
        [Holder(None, 0, 1, 64), Holder(root, None, 1, 64)], key=str
    )


def test_a_long_list():
    starts = [0x10000 + 0x40 * number for number in range(1000)]
    words = dict(pairwise(starts)) | {DATA.start: starts[0]}
    found = scanned(words, [HEAP, DATA], heap(dict.fromkeys(starts, 64)))
    path = why(found, FakeMemory(words), starts[999])
    assert [step.address for step in path.steps] == starts
    behind = found.layout.starts > np.uint64(starts[0])
    assert who(found, behind) == [Holder(None, 0, 999, 999 * 64)]


def test_a_large_table():
    """Of blocks that hold one block each, at an offset of 8."""
    nodes = [0x11000 + 0x40 * number for number in range(400)]
    words = {0x10000 + 8 * number: node for number, node in enumerate(nodes)}
    words |= {node: node + 0x20 + 8 for node in nodes}
    leaves = [node + 0x20 for node in nodes]
    of = heap({0x10000: 3200} | dict.fromkeys(nodes + leaves, 24))
    found = scanned(words | {DATA.start: 0x10000}, [HEAP, DATA], of)
    root = WordRoot(DATA.start, DATA)
    path = why(found, FakeMemory(words | {DATA.start: 0x10000}), leaves[399])
    assert path == Path(
        root,
        (
            Step(0x10000, 3200, 0, 8 * 399),
            Step(nodes[399], 24, 0, 0),
            Step(leaves[399], 24, 8, None),
        ),
    )
    assert who(found, found.layout.sizes == 24) == [Holder(None, 0, 800, 800 * 24)]
    assert who(found, found.layout.sizes > 0) == [Holder(root, None, 801, 800 * 24 + 3200)]
