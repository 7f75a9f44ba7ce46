# SPDX-License-Identifier: Apache-2.0
"""Which memory and registers count as roots, and which blocks a layout has."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from harness.fake_memory import heap, region, scanned, thread

from kwatch.model.reach import Reach
from kwatch.reach.layout import layout

BLOCK = 0x10000
HEAP = region(BLOCK, BLOCK + 0x1000)
LOW, TOP = 0x1070000, 0x1071000  # a stack, whose stack pointer is in the middle
SP = 0x1070800
GUARD = region(LOW - 0x1000, LOW, "---p")
STACK = region(LOW, TOP)
MAIN = region(LOW, TOP, path="[stack]")
DATA = region(LOW, TOP, path="/bin/program", inode=5)
DEAD, RED_ZONE, LIVE = SP - 0x400, SP - 128, SP + 8


def one_block(word: int, regions, *threads):
    """The scan of one block, which the word at this address points to."""
    of = heap({BLOCK: 64}, [(BLOCK, BLOCK + 0x1000)])
    return scanned({word: BLOCK}, [HEAP, *regions], of, *threads)


def class_of(scan) -> str:
    return Reach(scan.classes[0]).name


RUNS = thread(1, SP)
UNKNOWN = thread(2, None)
ELSEWHERE = thread(2, 0x500000)


@pytest.mark.parametrize(
    ("word", "regions", "threads", "expected"),
    [
        (LIVE, [MAIN], [RUNS], "REACHABLE"),
        (RED_ZONE, [MAIN], [RUNS], "REACHABLE"),
        (DEAD, [MAIN], [RUNS], "DEFINITE"),
        (DEAD, [MAIN], [UNKNOWN], "REACHABLE"),
        (DEAD, [MAIN], [RUNS, UNKNOWN], "DEFINITE"),
        (DEAD, [GUARD, STACK], [RUNS, ELSEWHERE], "DEFINITE"),
        (LIVE, [GUARD, STACK], [RUNS], "REACHABLE"),
        # any of these can have a stack there below the lowest known stack pointer
        (DEAD, [GUARD, STACK], [RUNS, UNKNOWN], "REACHABLE"),
        (DEAD, [GUARD, STACK], [RUNS, thread(3, DEAD)], "REACHABLE"),
        (DEAD, [GUARD, STACK], [ELSEWHERE], "REACHABLE"),
        (DEAD, [STACK], [RUNS], "REACHABLE"),  # a coroutine's stack in memory without a guard
        (DEAD, [DATA], [RUNS], "REACHABLE"),  # a signal stack among the globals
        (DEAD, [region(LOW - (2 << 20), LOW, "---p"), STACK], [RUNS], "REACHABLE"),
    ],
)
def test_stacks_count_from_the_stack_pointer(word, regions, threads, expected):
    assert class_of(one_block(word, regions, *threads)) == expected


@pytest.mark.parametrize(
    ("permissions", "expected"),
    [
        ("rw-p", "REACHABLE"),
        ("r--p", "REACHABLE"),  # modified, then protected
        ("---p", "REACHABLE"),
        ("rw-s", "REACHABLE"),
        ("r-xp", "DEFINITE"),
        ("r--s", "DEFINITE"),
    ],
)
def test_permissions(permissions, expected):
    data = region(LOW, TOP, permissions, "/bin/program", 5)
    assert class_of(one_block(DEAD, [data])) == expected


def test_only_aligned_words_are_pointers():
    of = heap({BLOCK: 64}, [(BLOCK, BLOCK + 0x1000)])
    words = {LIVE: BLOCK << 32 & (2**64 - 1), LIVE + 8: BLOCK >> 32}
    assert class_of(scanned(words, [HEAP, DATA], of)) == "DEFINITE"


@pytest.mark.parametrize("permissions", ["rwxp", "r-xp", "rwxs"])
def test_instructions_that_were_generated_hold_pointers_at_any_address(permissions):
    of = heap({BLOCK: 64}, [(BLOCK, BLOCK + 0x1000)])
    words = {LIVE: BLOCK << 24 & (2**64 - 1), LIVE + 8: BLOCK >> 40}
    code = region(LOW, TOP, permissions)
    assert class_of(scanned(words, [HEAP, code], of)) == "REACHABLE"
    of_a_file = region(LOW, TOP, permissions, "/bin/program", 5)
    assert class_of(scanned(words, [HEAP, of_a_file], of)) == "DEFINITE"


def test_a_register_holds_a_block():
    scan = one_block(0, [MAIN], thread(7, SP, rbx=BLOCK, rcx=BLOCK + 8, rdx=5))
    assert class_of(scan) == "REACHABLE"
    assert scan.roots.registers == ((7, "rbx"), (7, "rcx"))
    assert scan.stack_only.tolist() == [True]


def test_a_block_that_is_a_stack_in_use_is_reachable():
    assert class_of(one_block(0, [], thread(7, BLOCK + 40))) == "REACHABLE"


def test_stack_words_alone():
    assert one_block(LIVE, [MAIN], RUNS).stack_only.tolist() == [True]
    assert one_block(LIVE, [DATA], RUNS).stack_only.tolist() == [False]
    assert one_block(DEAD, [MAIN], RUNS).stack_only.tolist() == [False]


def test_free_memory_in_a_piece_is_no_root():
    words = {BLOCK + 0x800: BLOCK}
    of = heap({BLOCK: 64}, [(BLOCK, BLOCK + 0x1000)])
    assert class_of(scanned(words, [HEAP], of)) == "DEFINITE"
    unwalked = heap({BLOCK: 64}, [(BLOCK, BLOCK + 0x400)])
    assert class_of(scanned(words, [HEAP], unwalked)) == "REACHABLE"


def walk(blocks, pieces):
    starts, sizes = np.array(sorted(blocks.items()), np.uint64).T
    pieces = np.array(pieces, np.uint64).reshape(-1, 2)
    return SimpleNamespace(starts=starts, sizes=sizes, pieces=pieces, own=pieces[:0])


def known(blocks):
    return np.array(list(blocks), np.uint64), np.array(list(blocks.values()), np.uint64)


def rows(of):
    columns = (of.starts, of.sizes, of.exact)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_requested_sizes_are_known_for_blocks_that_were_seen():
    of = layout(
        walk({0x1000: 24, 0x1020: 40, 0x1050: 24}, [(0x1000, 0x2000)]),
        known({0x1050: 100, 0x1000: 0, 0x1080: 8}),
    )
    # 0x1050 has another block now, and 0x1080 is free
    assert rows(of) == [(0x1000, 0, True), (0x1020, 40, False), (0x1050, 24, False)]


def test_seen_blocks_outside_the_walked_pieces_are_blocks_too():
    of = layout(walk({0x1000: 24}, [(0x1000, 0x2000)]), known({0x9000: 8, 0x500: 3}))
    assert rows(of) == [(0x500, 3, True), (0x1000, 24, False), (0x9000, 8, True)]


def test_without_a_walk_the_last_size_of_an_address_counts():
    addresses, sizes = np.array([0x20, 0x10, 0x20], np.uint64), np.array([1, 2, 3], np.uint64)
    assert rows(layout(None, (addresses, sizes))) == [(0x10, 2, True), (0x20, 3, True)]
    assert len(layout(None, None)) == 0
