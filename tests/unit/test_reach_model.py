# SPDX-License-Identifier: Apache-2.0
"""The classes of blocks, against memcheck's rules written down plainly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from harness.fake_memory import heap, region, scanned, thread
from hypothesis import given
from hypothesis import strategies as st

from kwatch.model.reach import Reach

HEAP, HEAP_END = 0x10000, 0x10800  # room for 12 blocks of 64 bytes and as many gaps of 80
GLOBALS, GLOBALS_END = 0x20000, 0x20040


class Memcheck:
    """Its leak check, one block and one word at a time. Blocks are numbered by address.

    Of lost blocks that reach each other, and that no other lost block reaches, the lowest is the
    definite loss. memcheck names a block that lies below them and points to itself through others
    a definite loss, too, if they point to one of these others.
    """

    def __init__(self, words: dict[int, int], blocks: dict[int, int]) -> None:
        self.words = words
        self.blocks = sorted(blocks.items())
        self.state: dict[int, Reach] = {}

    def find(self, address: int) -> int | None:
        for number, (start, size) in enumerate(self.blocks):
            if start <= address < start + max(size, 1):
                return number
        return None

    def is_start(self, address: int, number: int) -> bool:
        start, size = self.blocks[number]
        first, second = self.words.get(start, 0), self.words.get(start + 8, 0)
        if address == start:
            return True
        if address == start + 24:
            return start % 8 == 0 and second + 25 == size and first <= second
        if address != start + 8 or start % 8 or first == 0:
            return False
        return (size - 8) % first == 0  # holds also if the rest has just that size

    def words_of(self, number: int) -> Iterator[int]:
        start, size = self.blocks[number]
        for address in range(-(-start // 8) * 8, start + size - 7, 8):
            yield self.words.get(address, 0)

    def visit(self, word: int, certain: bool) -> None:
        number = self.find(word)
        if number is None or self.state.get(number) == Reach.REACHABLE:
            return
        if certain and self.is_start(word, number):
            self.state[number] = Reach.REACHABLE
        elif number not in self.state:
            self.state[number] = Reach.POSSIBLE
        else:
            return
        for inner in self.words_of(number):
            self.visit(inner, self.state[number] == Reach.REACHABLE)

    def reached(self, number: int) -> set[int]:
        """The block itself, and all that it points to, and that those point to."""
        found, waiting = {number}, [number]
        while waiting:
            targets = {self.find(word) for word in self.words_of(waiting.pop())} - {None} - found
            found |= targets
            waiting += targets
        return found

    def classes(self, roots: list[int]) -> list[Reach]:
        for word in roots:
            self.visit(word, certain=True)
        reached = {number: self.reached(number) for number in range(len(self.blocks))}
        lost = reached.keys() - self.state.keys()
        for number in lost:
            above = {other for other in lost if number in reached[other]}
            leads = above <= reached[number] and number == min(above)
            self.state[number] = Reach.DEFINITE if leads else Reach.INDIRECT
        return [self.state[number] for number in range(len(self.blocks))]


@st.composite
def heaps(draw):
    """Words and blocks: neighbours, blocks of no bytes, and blocks at odd addresses too."""
    unit = draw(st.sampled_from([16, 8, 1]))
    blocks, at = {}, HEAP + 16
    for _ in range(draw(st.integers(1, 12))):
        at += unit * draw(st.integers(0, 5))
        size = draw(st.integers(0, 50))
        blocks[at] = size
        at += -(-max(size, 1) // unit) * unit
    starts = st.sampled_from(sorted(blocks))
    pointers = starts | st.builds(int.__add__, starts, st.sampled_from([1, 8, 16, 24, 49]))
    values = pointers | st.integers(0, 30)
    within = st.dictionaries(st.integers(HEAP // 8, at // 8), values, max_size=40)
    words = {8 * number: value for number, value in draw(within).items()}
    roots = draw(st.lists(pointers, max_size=2))
    return words, blocks, roots


@given(heaps(), st.booleans(), st.booleans())
def test_classes_are_memchecks(drawn, is_walked, in_registers):
    words, blocks, roots = drawn
    regions = [region(HEAP, HEAP_END), region(GLOBALS, GLOBALS_END)]
    registers = {f"r{number}": value for number, value in enumerate(roots) if in_registers}
    if not in_registers:
        words |= {GLOBALS + 8 * number: value for number, value in enumerate(roots)}
    of = heap(blocks)
    if is_walked:  # the sizes are the requested ones all the same
        of = heap(blocks, [(HEAP, HEAP_END)])
        of = type(of)(of.starts, of.sizes, np.ones(len(of), bool), of.pieces, of.own)
    expected = Memcheck(words, blocks)
    free = [
        value
        for address, value in words.items()
        if HEAP <= address < HEAP_END and expected.find(address) is None
    ]
    all_roots = roots + ([] if is_walked else free)
    found = scanned(words, regions, of, thread(**registers))
    assert [Reach(value) for value in found.classes] == expected.classes(all_roots)
