# SPDX-License-Identifier: Apache-2.0
"""Which releases of a process are suspicious, and which are errors, told as stories of events."""

from __future__ import annotations

import numpy as np
import pytest
from harness.records import heap_batch, typed

from kwatch.memory_errors.account import FreeChecks
from kwatch.memory_errors.block_table import BLOCK, BlockTable
from kwatch.memory_errors.judge import Doubt, Judge, ProcessState, Proof
from kwatch.memory_errors.probed_files import AllocatorFile, AllocatorFiles
from kwatch.memory_errors.suspects import Block, Suspect, Suspicion, Use
from kwatch.wire.allocators import FUNCTION_INDEX
from kwatch.wire.events import Chunk, EventType

A, B = 0x1000, 0x2000
LIBC, OTHER, TCMALLOC = 1, 2, 3


class Story:
    """Each event comes a nanosecond after the one before it. `then` begins another batch."""

    def __init__(self):
        self.account = FreeChecks(BlockTable(max_freed=64))
        self._events = []
        self._now = 0

    def _add(self, kind, address, function, allocator=LIBC, **more):
        self._now += 1
        self._events.append(
            {
                **{"type": kind, "address": address, "function": FUNCTION_INDEX[function]},
                **{"time_ns": self._now, "stack": 1000 + self._now, "allocator": allocator},
                **{"tid": 1, "tgid": 1, **more},
            }
        )
        return self

    def alloc(self, address, size=16, function="malloc", **more):
        return self._add(EventType.ALLOC, address, function, size=size, **more)

    def free(self, address, function="free", **more):
        return self._add(EventType.FREE, address, function, **more)

    def realloc(self, address, **more):
        return self._add(EventType.REALLOC_RELEASE, address, "realloc", **more)

    def failed(self, address, **more):
        return self._add(EventType.REALLOC_KEEP, address, "realloc", **more)

    def then(self):
        self.account.add(*typed(heap_batch(self._events)))
        self._events = []
        return self

    def suspects(self):
        return self.then().account.take()

    def found(self):
        return [(each.suspicion, each.address) for each in self.suspects()]


def test_nothing_is_wrong():
    story = Story().alloc(A).free(A).alloc(A).then().free(A).alloc(B).then().realloc(B).alloc(A)
    assert story.free(A).found() == []


@pytest.mark.parametrize("parts", [(), (0,), (1,), (0, 1)])
def test_a_block_is_freed_twice(parts):
    """In one batch or in several, the three stacks are the same."""
    story = Story()
    for part, step in enumerate([story.alloc, story.free, story.free]):
        step(A)
        if part in parts:
            story.then()
    (suspect,) = story.suspects()
    assert suspect.suspicion is Suspicion.FREED
    assert suspect.use.stack == 1003
    assert (suspect.block.allocated.stack, suspect.block.freed.stack) == (1001, 1002)


def test_the_first_free_is_blamed():
    story = Story().alloc(A).free(A).free(A).then().free(A)
    assert [each.block.freed.stack for each in story.suspects()] == [1002, 1002]


def test_a_block_from_before_is_freed_twice():
    unknown, freed = Story().free(A).then().free(A).suspects()
    assert unknown.suspicion is Suspicion.UNKNOWN
    assert freed.suspicion is Suspicion.FREED
    assert freed.block.allocated is None


@pytest.mark.parametrize("is_split", [False, True])
def test_an_address_inside_a_block(is_split):
    story = Story().alloc(A, size=64)
    if is_split:
        story.then()
    (suspect,) = story.free(A + 16).free(A).suspects()
    assert suspect.suspicion is Suspicion.INSIDE
    assert (suspect.block.address, suspect.block.size) == (A, 64)


def test_an_address_inside_a_freed_block_is_unknown():
    assert Story().alloc(A, size=64).free(A).free(A + 16).found() == [(Suspicion.UNKNOWN, A + 16)]
    story = Story().alloc(A, size=64).then().free(A).free(A + 16)
    assert story.found() == [(Suspicion.UNKNOWN, A + 16)]


@pytest.mark.parametrize("is_split", [False, True])
def test_a_realloc_that_fails_keeps_the_block(is_split):
    story = Story().alloc(A).realloc(A)
    if is_split:
        story.then()
    assert story.failed(A).free(A).found() == []


def test_an_old_pointer_after_realloc():
    (suspect,) = Story().alloc(A).realloc(A).alloc(B, size=99).free(A).suspects()
    assert suspect.block.by_realloc
    assert suspect.block.freed.stack == 1002


@pytest.mark.parametrize("is_split", [False, True])
@pytest.mark.parametrize(
    ("new", "delete", "is_wrong"),
    [
        *[("malloc", "free", False), ("_Znwm", "_ZdlPvm", False), ("_Znam", "_ZdaPv", False)],
        *[("_Znwm", "free", True), ("malloc", "_ZdlPv", True), ("_Znwm", "_ZdaPv", True)],
        ("_ZnwmSt11align_val_t", "_ZdlPv", True),
        ("_ZnwmSt11align_val_t", "_ZdlPvmSt11align_val_t", False),
    ],
)
def test_functions_that_do_not_match(new, delete, is_wrong, is_split):
    story = Story().alloc(A, function=new)
    if is_split:
        story.then()
    expected = [(Suspicion.MISMATCHED, A)] if is_wrong else []
    assert story.free(A, function=delete).found() == expected


def test_functions_that_cannot_be_told_apart_match():
    story = Story()
    story.account.mixed = frozenset([TCMALLOC])
    story.alloc(A, function="_Znam", allocator=TCMALLOC)
    assert story.free(A, function="free", allocator=TCMALLOC).found() == []


def test_two_allocators():
    assert Story().alloc(A).free(A, allocator=OTHER).found() == [(Suspicion.MISMATCHED, A)]
    assert Story().alloc(A, allocator=0).free(A, allocator=OTHER).found() == []


def test_a_child_has_the_blocks_and_a_new_program_has_none():
    story = Story().alloc(A).free(A).then()
    child = story.account.fork()
    child.add(*typed(heap_batch([{"type": EventType.FREE, "address": A, "time_ns": 9}])))
    assert [each.suspicion for each in child.take()] == [Suspicion.FREED]
    story.account.exec()
    assert story.free(A).found() == [(Suspicion.UNKNOWN, A)]


def test_the_oldest_freed_addresses_are_forgotten():
    story = Story()
    for number in range(1, 201):
        story.alloc(number * 64).free(number * 64).then()
    assert story.free(200 * 64).found() == [(Suspicion.FREED, 200 * 64)]
    assert story.free(64).found() == [(Suspicion.UNKNOWN, 64)]


def test_no_block_lives_again_when_its_end_is_forgotten():
    """Its allocation is in a run that is too long to be merged with that of the ends."""
    story = Story()
    for number in range(1, 1001):
        story.alloc(number * 64)
    for part in range(3):
        story.then()
        for number in range(80):
            story.free((80 * part + number + 1) * 64)
    story.then()
    assert {each.suspicion for each in story.free(64).free(8 * 64).suspects()} == {Suspicion.FREED}


def rows_of(addresses, freed_ns):
    rows = np.zeros(len(addresses), BLOCK)
    rows["address"], rows["free_ns"], rows["size"] = addresses, freed_ns, 8
    return rows


def test_all_blocks_of_a_run_are_forgotten():
    table = BlockTable(max_freed=1)
    for addresses in ([A, B], [A, B]):
        table.put(rows_of(addresses, freed_ns=7))
    found, _ = table.find(np.array([A, B], "u8"))
    assert not found.any()
    assert table.live_before(np.array([B], "u8"))["address"].tolist() == [0]
    table.put(rows_of([A], freed_ns=0))
    assert table.find(np.array([A, B], "u8"))[0].tolist() == [True, False]


@pytest.mark.parametrize("seed", range(4))
def test_the_live_block_before_an_address(seed):
    """The runs of the table say what a list of all blocks says."""
    random = np.random.default_rng(seed)
    table, freed = BlockTable(), {}
    wanted = np.arange(0, 3010, 7, dtype="u8")
    for size in [2000, *random.integers(1, 400, 30).tolist()]:
        addresses = np.unique(random.integers(1, 3000, size))
        is_freed = random.random(len(addresses)) < random.random()
        table.put(rows_of(addresses, is_freed))
        freed.update(zip(addresses.tolist(), is_freed.tolist(), strict=True))
        live = np.array([0, *sorted(each for each in freed if not freed[each])])
        expected = live[np.maximum(live.searchsorted(wanted) - 1, 0)]
        assert (table.live_before(wanted)["address"] == expected).all()


FILES = {
    LIBC: AllocatorFile("/lib/libc.so.6", False, False, since_ns=100),
    OTHER: AllocatorFile("/lib/libstdc++.so.6", False, True, since_ns=100),
    TCMALLOC: AllocatorFile("/lib/libtcmalloc.so.4", True, False, since_ns=100),
}
STATE = ProcessState([FILES[LIBC], FILES[OTHER]], gap=False)


def use(time_ns, function="free", allocator=LIBC):
    return Use(time_ns, 1, 0, FUNCTION_INDEX[function], allocator)


def suspect(suspicion, block=None, chunk=0, **more):
    return Suspect(suspicion, A, use(500, **more), chunk, False, block)


def judged(found, state=STATE):
    return Judge(AllocatorFiles(FILES)).judge(found, state)


def freed_at(time_ns):
    return Block(A, 16, use(150, "malloc"), use(time_ns))


def test_a_second_free_is_an_error_if_nothing_was_missed():
    assert judged(suspect(Suspicion.FREED, freed_at(200))) is Proof.FREED


@pytest.mark.parametrize(
    ("freed_ns", "state", "doubt"),
    [
        (99, STATE, Doubt.OLDER),  # allocations were not seen yet
        (200, ProcessState(STATE.files, gap=True), Doubt.UNPROBED),
        (200, ProcessState(STATE.files, False, [(150, 201)]), Doubt.LOST),
        (200, ProcessState(STATE.files, False, [(400, 900)]), Doubt.LOST),
    ],
)
def test_what_was_missed_may_explain_a_second_free(freed_ns, state, doubt):
    assert judged(suspect(Suspicion.FREED, freed_at(freed_ns)), state) is doubt


@pytest.mark.parametrize(
    ("allocator", "files", "verdict"),
    [
        (LIBC, STATE.files, Proof.INSIDE),
        (0, STATE.files, Proof.INSIDE),  # the only allocator; libstdc++ calls it
        (0, [FILES[LIBC], FILES[TCMALLOC]], Doubt.OLDER),  # one may be inside the other
        (TCMALLOC, STATE.files, Doubt.OLDER),
    ],
)
def test_an_address_inside_a_block_of_the_same_allocator(allocator, files, verdict):
    block = Block(A - 8, 64, use(200, "malloc", allocator))
    found = suspect(Suspicion.INSIDE, block)
    assert judged(found, ProcessState(files, gap=False)) is verdict


def test_a_process_that_ended_while_it_was_probed_proves_nothing():
    found = suspect(Suspicion.FREED, freed_at(200), allocator=9)
    assert judged(found) is Doubt.OLDER
    assert judged(found, ProcessState([], gap=False)) is Doubt.OLDER
    assert judged(suspect(Suspicion.FREED, freed_at(200), allocator=0)) is Proof.FREED
    mismatch = suspect(Suspicion.MISMATCHED, Block(A, 16, use(200, "_Znwm", OTHER)))
    assert judged(mismatch, ProcessState([], gap=False)) is Doubt.OLDER


@pytest.mark.parametrize("period", [(0, 199), (501, 600)])
def test_earlier_and_later_losses_explain_nothing(period):
    state = ProcessState(STATE.files, False, [period])
    assert judged(suspect(Suspicion.FREED, freed_at(200)), state) is Proof.FREED


@pytest.mark.parametrize(
    ("chunk", "verdict"),
    [
        (Chunk.READ | Chunk.IN_USE, Doubt.OLDER),
        (0, Doubt.OLDER),
        (Chunk.READ | Chunk.FREE, Proof.CHUNK_FREE),
        (Chunk.READ | Chunk.INVALID, Proof.NO_BLOCK),
        (Chunk.READ | Chunk.INVALID | Chunk.ON_STACK, Proof.STACK),
    ],
)
def test_an_unknown_address_is_judged_by_the_words_around_it(chunk, verdict):
    assert judged(suspect(Suspicion.UNKNOWN, chunk=chunk)) is verdict
    of_another = judged(suspect(Suspicion.UNKNOWN, chunk=chunk, allocator=TCMALLOC))
    assert of_another is (verdict if verdict is Proof.STACK else Doubt.OLDER)


def test_operators_judge_by_the_words_of_the_c_library():
    found = suspect(Suspicion.UNKNOWN, chunk=Chunk.INVALID, function="_ZdlPv", allocator=OTHER)
    assert judged(found) is Proof.NO_BLOCK


def test_memory_that_the_program_has_mapped():
    state = ProcessState(STATE.files, False, is_mapped=lambda address: address == A)
    assert judged(suspect(Suspicion.UNKNOWN), state) is Proof.MAPPED
    assert judged(suspect(Suspicion.UNKNOWN, chunk=Chunk.IN_USE), state) is Doubt.OLDER


@pytest.mark.parametrize(
    ("allocated", "verdict"),
    [
        (use(200, "_Znwm", OTHER), Proof.KIND),
        (use(200, "_Znwm", TCMALLOC), Doubt.UNPROBED),  # its delete is its free
        (use(99, "_Znwm", OTHER), Doubt.OLDER),
        (use(200, "malloc", TCMALLOC), Doubt.UNPROBED),
    ],
)
def test_mismatches(allocated, verdict):
    assert judged(suspect(Suspicion.MISMATCHED, Block(A, 16, allocated))) is verdict


def test_one_file_with_two_numbers_is_one_allocator():
    files = AllocatorFiles({**FILES, 9: FILES[LIBC]})
    found = suspect(Suspicion.MISMATCHED, Block(A, 16, use(200, "malloc", 9)))
    assert Judge(files).judge(found, STATE) is None
