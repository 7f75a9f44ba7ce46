# SPDX-License-Identifier: Apache-2.0
"""What counts as a leak, and the sentence that gives the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness.verdicts import (
    LEAK_HERE,
    MALLOC,
    NEW,
    NO_NAME,
    OWN_LIBRARY,
    OWN_NEW,
    RESIZE,
    SCANNER,
    STATIC_START,
    STATIC_STRDUP,
    STDIO,
    STRDUP,
    ZDUP,
    ZMALLOC,
    held,
    lost,
    scanned,
    unscanned,
    verdict,
)

from kwatch.model.frame import Ending
from kwatch.model.growth import Grown, GrowthEvidence, GrowthKind, StackGain
from kwatch.model.reach import Amount, BlockCounts, HeapReach
from kwatch.model.snapshot import Lost, Verdict
from kwatch.symbols.stack import Stack


def test_what_is_lost_is_a_leak_whoever_allocated_it():
    assert verdict(lost(LEAK_HERE))[0] is Verdict.LEAK
    assert verdict(lost())[0] is Verdict.LEAK
    assert verdict(lost(STDIO, LEAK_HERE))[0] is Verdict.LEAK


def test_what_is_held_is_no_leak():
    assert verdict(held(LEAK_HERE, blocks=10_000)) == (Verdict.CLEAN, "all 10,000 blocks are held")
    assert verdict(held(LEAK_HERE)) == (Verdict.CLEAN, "the one block is held")
    reason = "all 2 blocks within --min-size and --max-size are held"
    assert verdict(held(blocks=2), some_sizes=True) == (Verdict.CLEAN, reason)


def test_a_pointer_into_the_middle_holds_a_block():
    reach = HeapReach(possible=Amount(1, 9), reachable=Amount(3, 9), is_settled=True)
    reason = "all 4 blocks are held, 1 block by a pointer into the middle"
    assert verdict(held(blocks=4), reach=reach) == (Verdict.CLEAN, reason)


def test_nothing_outstanding_is_clean():
    assert verdict() == (Verdict.CLEAN, "no block is outstanding")


def test_blocks_that_were_not_scanned_leave_it_open():
    reason = "3 blocks are outstanding, and whether they are lost is unknown: its memory is gone"
    assert unscanned(held(LEAK_HERE, blocks=3)) == (Verdict.UNSURE, reason)
    assert unscanned() == (Verdict.CLEAN, "no block is outstanding")


def test_an_earlier_scan_proves_what_was_lost_then_and_nothing_else():
    stacks = [lost(LEAK_HERE)]
    failed = scanned(stacks, error="it took too long")
    assert verdict(*stacks, reach=failed)[0] is Verdict.LEAK
    stacks = [held(LEAK_HERE)]
    word, reason = verdict(*stacks, reach=scanned(stacks, error="it took too long"))
    assert word is Verdict.UNSURE
    assert reason.endswith("whether they are lost is unknown: it took too long")


@pytest.mark.parametrize(
    ("facts", "reason", "of_a_loss"),
    [
        (
            {"is_settled": False, "scans": 40},
            "which blocks are lost kept changing over 40 scans",
            Verdict.UNSURE,
        ),
        ({"unreadable": 8192}, "8.0 KiB of its memory could not be read", Verdict.UNSURE),
        (
            {"unwalked": ("an arena",)},  # pointers in it count
            "a part of the heap could not be read: an arena",
            Verdict.LEAK,
        ),
    ],
)
def test_a_scan_that_proves_nothing_leaves_it_open(facts, reason, of_a_loss):
    stacks = [held(LEAK_HERE)]
    assert verdict(*stacks, reach=scanned(stacks, **facts)) == (Verdict.UNSURE, reason)
    stacks = [lost(LEAK_HERE)]
    assert verdict(*stacks, reach=scanned(stacks, **facts))[0] is of_a_loss


@pytest.mark.parametrize(
    ("cause", "count", "reason"),
    [
        ("control_ring_full", 1, "1 event of the heap was lost (control ring full)"),
        (
            "heap_ring_full",
            3000,
            "3,000 events of the heap were lost (heap ring full); a larger --buffer may help",
        ),
    ],
)
def test_lost_events_leave_it_open_unless_the_heap_was_walked(cause, count, reason):
    events = Lost(count, {cause: count})
    assert verdict(held(LEAK_HERE), lost=events) == (Verdict.UNSURE, reason)
    walked = scanned([held()], is_walked=True)
    assert verdict(held(LEAK_HERE), lost=events, reach=walked)[0] is Verdict.CLEAN
    word, told = verdict(lost(LEAK_HERE), lost=events)
    assert word is Verdict.UNSURE
    assert told.endswith(f"no pointer leads to it; a free may be missing: {reason}")
    walked = scanned([lost()], is_walked=True)
    assert verdict(lost(LEAK_HERE), lost=events, reach=walked)[0] is Verdict.LEAK


def test_missing_frees_leave_it_open_unless_the_heap_was_walked():
    why = "the addresses of 3 blocks were allocated again though no free of them was seen"
    word, reason = verdict(lost(LEAK_HERE), unseen_frees=why)
    assert word is Verdict.UNSURE
    assert reason.endswith(f"is lost: no pointer leads to it; a free may be missing: {why}")
    walked = scanned([lost()], is_walked=True)
    assert verdict(lost(LEAK_HERE), unseen_frees=why, reach=walked)[0] is Verdict.LEAK
    assert verdict(held(LEAK_HERE), unseen_frees=why)[0] is Verdict.CLEAN


def test_without_any_event_there_is_no_verdict():
    """A leak or a gap is one all the same."""
    reason = "nothing was allocated or freed while kwatch traced"
    assert verdict(has_events=False) == (None, reason)
    assert verdict(has_events=False, doubts=("why",))[0] is Verdict.UNSURE
    assert verdict(lost(LEAK_HERE), has_events=False)[0] is Verdict.LEAK
    walked = scanned([], is_walked=True)
    assert verdict(has_events=False, reach=walked)[0] is Verdict.CLEAN


def test_doubts_leave_it_open():
    gap = "these functions could not be probed: malloc"
    assert verdict(doubts=(gap,)) == (Verdict.UNSURE, gap)
    assert verdict(held(), doubts=(gap, "more")) == (Verdict.UNSURE, f"{gap}; more")


def test_a_leak_may_not_be_all():
    known, reason = verdict(lost(LEAK_HERE), doubts=("40 MiB grew unseen", "more"))
    assert known is Verdict.LEAK
    assert reason.endswith("is lost: no pointer leads to it; besides, 40 MiB grew unseen")


EARLIER = "blocks ({}) allocated before the attach are lost: no pointer leads to them"


def test_a_few_blocks_lost_before_the_attach_are_told_but_are_no_leak():
    earlier = scanned([], earlier=Amount(7, 700), is_walked=True)
    besides = f"7 {EARLIER.format('700 B')}"
    since = "no block allocated since is lost"
    expected = (Verdict.CLEAN, f"no other block is outstanding; besides, {besides}; {since}")
    assert verdict(reach=earlier) == expected
    _, reason = verdict(reach=earlier, some_sizes=True)
    assert "7 blocks (700 B) of other sizes or from before the attach are lost" in reason
    both = scanned([lost(LEAK_HERE)], earlier=Amount(7, 700), is_walked=True)
    word, reason = verdict(lost(LEAK_HERE), reach=both)
    assert word is Verdict.LEAK
    assert reason.endswith(f"no pointer leads to it; besides, {besides}")


@pytest.mark.parametrize(
    ("lost_before", "held_bytes", "expected"),
    [
        (Amount(63, 6300), 1 << 30, Verdict.CLEAN),
        (Amount(64, 6400), 1 << 30, Verdict.LEAK),
        (Amount(1, 1 << 20), 1 << 30, Verdict.LEAK),
        (Amount(1, 4096), 9 * 4096, Verdict.LEAK),
        (Amount(1, 4096), 9 * 4096 + 1, Verdict.CLEAN),
        (Amount(1, 4095), 0, Verdict.CLEAN),
    ],
)
def test_many_blocks_lost_before_the_attach_are_a_leak(lost_before, held_bytes, expected):
    reach = scanned([], earlier=lost_before, is_walked=True, reachable=Amount(1, held_bytes))
    assert verdict(reach=reach)[0] is expected


def test_blocks_that_only_one_lost_block_holds_count_by_their_size():
    """Such as an old copy of the environment: it was lost as a whole."""
    reach = HeapReach(Amount(1, 8), Amount(500, 4000), reachable=Amount(1, 1 << 20), is_walked=True)
    assert verdict(reach=replace(reach, is_settled=True))[0] is Verdict.CLEAN


def test_a_leak_from_before_the_attach_is_told_with_where_to_look():
    reach = scanned([], earlier=Amount(900, 90_000), is_walked=True)
    leak = f"900 {EARLIER.format('87.9 KiB')}"
    more = "no block allocated since is lost; kwatch leaks --pid 7 lists their sizes and types"
    assert verdict(reach=reach, pid=7) == (Verdict.LEAK, f"{leak}; {more}")
    assert verdict(reach=reach)[1] == f"{leak}; no block allocated since is lost"
    _, reason = verdict(held(LEAK_HERE), reach=reach, growth=(growth(),))
    assert "is lost; besides, 1 block (100 B) from leak_here" in reason
    word, reason = verdict(reach=replace(reach, blind_threads=1))
    assert word is Verdict.UNSURE
    assert "no pointer leads to them, unless the registers of 1 thread" in reason


def test_what_is_lost_since_the_attach_comes_first():
    stacks = [lost(LEAK_HERE)]
    reach = scanned(stacks, earlier=Amount(900, 90_000), is_walked=True)
    word, reason = verdict(*stacks, reach=reach, pid=7)
    assert word is Verdict.LEAK
    assert reason.startswith("1 block (100 B) from leak_here (demo.c:12) is lost")
    hint = "kwatch leaks --pid 7 lists their sizes and types"
    assert reason.endswith(f"; besides, 900 {EARLIER.format('87.9 KiB')}; {hint}")


def test_what_a_parent_lost_is_not_judged_with_its_child():
    reach = scanned([], earlier=Amount(900, 90_000), is_walked=True)
    word, reason = verdict(reach=reach, is_forked=True, pid=7)
    assert word is Verdict.CLEAN
    before = "900 blocks (87.9 KiB) from before the fork are lost: no pointer leads to them"
    assert reason == f"no other block is outstanding; besides, {before}"


def test_lost_events_can_be_those_of_blocks_that_seem_to_be_from_before():
    reach = scanned([], earlier=Amount(900, 90_000), is_walked=True)
    _, reason = verdict(reach=reach, lost=Lost(3, {"heap_ring_full": 3}))
    assert "900 blocks (87.9 KiB), whose allocation kwatch did not see, are lost" in reason


def test_a_program_traced_from_its_exec_has_no_earlier_blocks():
    unseen = scanned([], earlier=Amount(7, 700), is_walked=True)
    reason = (
        "7 blocks (700 B), whose allocation kwatch did not see, are lost: no pointer leads to them"
    )
    assert verdict(reach=unseen, saw_all=True) == (Verdict.LEAK, reason)


def growth(what=Grown.BLOCKS, stack=0):
    sentence = "their size grows by 1.0 KiB/s ± 10 B/s over 58.0 s and does not level off"
    return GrowthEvidence(what, GrowthKind.GROWING, sentence, "bytes", 1024, 10, 58, stack)


def test_what_grows_is_named_with_the_evidence():
    word, reason = verdict(held(LEAK_HERE, blocks=9), growth=(growth(),), doubts=("why",))
    assert word is Verdict.GROWING
    assert reason == (
        "9 blocks (900 B) from leak_here (demo.c:12) are outstanding; their size grows by "
        "1.0 KiB/s ± 10 B/s over 58.0 s and does not level off; besides, why"
    )
    word, reason = verdict(growth=(growth(Grown.DESCRIPTORS, None),))
    assert (word, reason.startswith("their size grows")) == (Verdict.GROWING, True)


def test_what_grows_is_named_though_it_is_not_listed():
    """realloc() makes a buffer young again: it is not older than --older."""
    stack = Stack(frames=(LEAK_HERE,))
    word, reason = verdict(growth=(growth(stack=77),), growing_stacks={77: stack})
    assert word is Verdict.GROWING
    assert reason.startswith("blocks from leak_here (demo.c:12) are outstanding; ")


def test_memory_that_has_levelled_off_is_told_beside_what_is_held():
    word, reason = verdict(held(LEAK_HERE, blocks=9), level="it has levelled off")
    assert (word, reason) == (Verdict.CLEAN, "all 9 blocks are held; besides, it has levelled off")


def test_a_program_with_a_collector_is_judged_by_its_memory():
    why, level = "no allocator was found in the process", "its anonymous memory does not grow"
    word, reason = verdict(has_events=False, collected=why, level=level)
    assert (word, reason) == (Verdict.CLEAN, f"{why}; besides, {level}")
    assert verdict(collected=why, level=level, doubts=("why",))[0] is Verdict.UNSURE


def test_a_heap_that_grows_is_named_with_the_place_that_has_gained_most():
    """Frames of generated code differ, so that one place has several stacks."""
    gains = (StackGain(7, 500, 5), StackGain(8, 400, 4), StackGain(9, 300, 3))
    heap = replace(growth(Grown.HEAP, 7), sentence="the heap grows", gains=gains)
    stacks = {7: Stack(frames=(OWN_LIBRARY,))}
    stacks |= {8: Stack(frames=(LEAK_HERE, NO_NAME)), 9: Stack(frames=(LEAK_HERE,))}
    word, reason = verdict(growth=(heap,), growing_stacks=stacks)
    assert word is Verdict.GROWING
    assert reason == ("the heap grows; the most is from leak_here (demo.c:12): 7 blocks (700 B)")


def test_a_loss_outweighs_growth():
    assert verdict(lost(LEAK_HERE), growth=(growth(),))[0] is Verdict.LEAK


def test_the_root_is_named_with_what_it_holds():
    """A missed `delete` loses an object and all that it holds."""
    root = replace(lost(LEAK_HERE, blocks=60, size=8), indirect=Amount(59, 17_700))
    victim = replace(
        held(RESIZE, blocks=60),
        reach=BlockCounts(indirect=59, reachable=1),
        lost_bytes=17_700,
    )
    reach = HeapReach(definite=Amount(60, 480), indirect=Amount(59, 17_700), is_settled=True)
    assert verdict(root, victim, reach=reach) == (
        Verdict.LEAK,
        "60 blocks (480 B) from leak_here (demo.c:12), which hold 59 more (17.3 KiB), are lost: no "
        "pointer leads to them",
    )
    one = replace(lost(LEAK_HERE), indirect=Amount(1, 8))
    assert ", which holds 1 more (8 B), is lost" in verdict(one)[1]


def test_what_only_unseen_lost_blocks_lead_to():
    row = replace(lost(LEAK_HERE, blocks=2), reach=BlockCounts(indirect=2))
    reach = HeapReach(indirect=Amount(2, 200), is_settled=True)
    reason = verdict(row, reach=reach)[1]
    assert reason.endswith("no pointer leads to them, except from other lost blocks")


def test_without_all_registers_no_loss_is_proven():
    stacks = [lost(LEAK_HERE)]
    word, reason = verdict(*stacks, reach=scanned(stacks, blind_threads=2))
    assert word is Verdict.UNSURE
    assert reason == (
        "1 block (100 B) from leak_here (demo.c:12) is lost: no pointer leads to it, unless the "
        "registers of 2 threads that kwatch could not read hold one"
    )


@pytest.mark.parametrize(
    ("stacks", "reason"),
    [
        (
            [lost(LEAK_HERE, blocks=101, held=5)],
            "101 blocks (9.9 KiB) of 106 from leak_here (demo.c:12) are lost: no pointer leads to "
            "them",
        ),
        (
            [lost(OWN_LIBRARY, size=9), lost(LEAK_HERE), held(MALLOC)],
            "1 block (9 B) from render (librender.so) is lost: no pointer leads to it, "
            "and more from 1 other stack",
        ),
        ([lost(NO_NAME)], "1 block (100 B) from code in no known file (0x4000) is lost: "),
        ([lost(NEW, RESIZE, LEAK_HERE)], "1 block (100 B) from leak_here (demo.c:12) is lost: "),
        (
            [lost(ZMALLOC, ZDUP, LEAK_HERE)],
            "1 block (100 B) from leak_here (demo.c:12) through zmalloc (zmalloc.c:101) is lost: ",
        ),
        ([lost(ZMALLOC, ZDUP)], "1 block (100 B) from zmalloc (zmalloc.c:101) is lost: "),
        ([lost(STRDUP, OWN_NEW, LEAK_HERE)], "1 block (100 B) from leak_here (demo.c:12) is lost"),
        (
            [lost(SCANNER, STRDUP, LEAK_HERE)],
            "1 block (100 B) from leak_here (demo.c:12) through strdup (libc.so.6) is lost: ",
        ),
        ([lost(MALLOC, LEAK_HERE)], "1 block (100 B) from leak_here (demo.c:12) is lost: "),
        (
            [lost(NO_NAME, LEAK_HERE)],
            "1 block (100 B) from leak_here (demo.c:12) through code in no known file (0x4000) is",
        ),
        (
            [lost(STATIC_STRDUP, LEAK_HERE, STATIC_START)],
            "1 block (100 B) from leak_here (demo.c:12) through strdup (demo) is lost: ",
        ),
        ([lost()], "1 block (100 B) from an unknown place is lost: "),
        (
            [lost(ending=Ending.OFF)],
            "1 block (100 B) from an unknown place (without stacks, kwatch cannot tell) is lost: ",
        ),
    ],
)
def test_the_reason_names_the_stack_that_lost_most(stacks, reason):
    assert verdict(*stacks)[1].startswith(reason)
