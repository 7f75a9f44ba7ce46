# SPDX-License-Identifier: Apache-2.0
"""Interior pointers that count as pointers to the start of a block, and those that do not."""

from __future__ import annotations

import pytest
from harness.fake_memory import FakeMemory, FakePages, heap, region, scanned

from kwatch.model.reach import Reach
from kwatch.reach.scan import scan

BLOCK, BLOCKS_END, GLOBAL = 0x10000, 0x70000, 0x80000
CODE, DATA = 0x400000, 0x500000
REGIONS = [
    region(BLOCK, BLOCKS_END),
    region(GLOBAL, GLOBAL + 8),
    region(CODE, CODE + 0x1000, "r-xp", "/bin/program", 5),
    region(DATA, DATA + 0x1000, "r--p", "/bin/program", 5),
]
VTABLE, OTHER_VTABLE, NO_VTABLE = DATA + 0x10, DATA + 0x40, DATA + 0x80
TABLES = {
    VTABLE: CODE + 0x10,
    VTABLE + 8: 0,
    VTABLE + 16: CODE + 0x20,
    OTHER_VTABLE: CODE + 0x30,
    OTHER_VTABLE + 8: CODE + 0x40,
    NO_VTABLE: CODE + 0x50,
    NO_VTABLE + 8: 77,
}
#: Types of Python: flags at 168. READY, and HAVE_GC or MANAGED_DICT too.
PLAIN, COLLECTED, MANAGED, UNREADY = (DATA + 0x200 * number for number in range(1, 5))
TYPES = {
    **{kind + 8: PLAIN for kind in (PLAIN, COLLECTED, MANAGED, UNREADY)},
    PLAIN + 168: 1 << 12,
    COLLECTED + 168: 1 << 12 | 1 << 14,
    MANAGED + 168: 1 << 12 | 1 << 14 | 1 << 4,
    UNREADY + 168: 1 << 14,
}
MEMORY = TABLES | TYPES


def class_by(offset: int, size: int, words: dict[int, int], walked: bool = False) -> str:
    """The class of a block to which one global points, at an offset."""
    memory = MEMORY | {BLOCK + at: value for at, value in words.items()}
    pieces = [(BLOCK, BLOCKS_END)] if walked else None
    of = heap({BLOCK: size}, pieces)
    found = scanned(memory | {GLOBAL: BLOCK + offset}, REGIONS, of)
    return Reach(found.classes[0]).name


CASES = [
    # a std::string of 5 characters with room for 10: 24 + 10 + 1 bytes
    ("string", 24, 35, {0: 5, 8: 10}, True),
    ("string, other size", 24, 36, {0: 5, 8: 10}, False),
    ("string, too long", 24, 35, {0: 11, 8: 10}, False),
    ("length", 8, 48, {0: 40}, True),
    ("length, other", 8, 48, {0: 41}, False),
    ("length, none", 8, 48, {0: 0}, False),
    ("array of 5", 8, 48, {0: 5}, True),
    ("array of 7", 8, 48, {0: 7}, False),
    ("array, second element", 16, 48, {0: 5}, False),
    ("second base", 16, 48, {0: VTABLE, 16: OTHER_VTABLE}, True),
    ("first base has none", 16, 48, {0: 0, 16: OTHER_VTABLE}, False),
    ("no vtable", 16, 48, {0: VTABLE, 16: NO_VTABLE}, False),
    ("not aligned", 16, 48, {0: VTABLE, 16: OTHER_VTABLE + 1}, False),
    ("tuple", 16, 48, {16: 1, 24: COLLECTED}, True),
    ("str", 16, 48, {16: 1, 24: PLAIN}, False),
    ("no type", 16, 48, {16: 1, 24: UNREADY}, False),
    ("object with a managed dict", 32, 64, {32: 1, 40: MANAGED}, True),
    ("its head", 16, 64, {32: 1, 40: MANAGED}, True),
    ("head of an object without one", 16, 64, {32: 1, 40: COLLECTED}, False),
    # PyDictValues: 4 values of 8 bytes behind 8 bytes, of which the last say 8 and 2 used
    ("values of attributes", 8, 40, {0: 8 << 56 | 2 << 48}, True),
    ("the same, marked", 7, 40, {0: 8 << 56 | 2 << 48}, True),
    ("values, other distance", 8, 40, {0: 9 << 56 | 2 << 48}, False),
    ("values, too many", 8, 40, {0: 8 << 56 | 7 << 48}, False),
]


@pytest.mark.parametrize(
    ("offset", "size", "words", "counts"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_interior_pointers(offset, size, words, counts):
    assert class_by(offset, size, words) == ("REACHABLE" if counts else "POSSIBLE")


@pytest.mark.parametrize(
    ("offset", "size", "words", "expected"),
    [
        (24, 40, {0: 5, 8: 10}, "REACHABLE"),  # malloc(35) gives 40 bytes
        (24, 56, {0: 5, 8: 10}, "POSSIBLE"),
        (8, 56, {0: 40}, "REACHABLE"),
        (8, 72, {0: 37}, "POSSIBLE"),
        (8, (1 << 17) + 4080, {0: 1 << 17}, "REACHABLE"),  # a mapping of its own
    ],
)
def test_usable_sizes_leave_room(offset, size, words, expected):
    assert class_by(offset, size, words, walked=True) == expected


def test_a_chain_through_an_interior_pointer_is_possible():
    words = {GLOBAL: BLOCK + 8, BLOCK: 0, BLOCK + 64: BLOCK + 128, BLOCK + 16: BLOCK + 64}
    of = heap({BLOCK: 48, BLOCK + 64: 48, BLOCK + 128: 48, BLOCK + 192: 48})
    found = scanned(words, REGIONS, of)
    assert [Reach(value).name for value in found.classes] == ["POSSIBLE"] * 3 + ["DEFINITE"]


def test_pages_that_are_not_in_memory_are_not_read():
    """Reading the vtable would map its page into the process."""

    class Pages(FakePages):
        def resident(self, start, end, shared):
            return super().resident(start, end, shared)[: int(start != DATA)]

    words = {GLOBAL: BLOCK + 16, BLOCK: VTABLE, BLOCK + 16: OTHER_VTABLE}
    found = scan(FakeMemory(MEMORY | words), Pages(), REGIONS, heap({BLOCK: 48}), ())
    assert Reach(found.classes[0]).name == "POSSIBLE"
