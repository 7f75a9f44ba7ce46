# SPDX-License-Identifier: Apache-2.0
"""Functions that allocate for others, learnt from stacks; and whose the blocks are."""

from __future__ import annotations

import pytest

from kwatch.model.frame import Frame
from kwatch.model.snapshot import BlockOwner, Evidence, Wrapper
from kwatch.ownership.code import Shape
from kwatch.ownership.owner import block_owner
from kwatch.ownership.wrappers import UNKNOWN, Overrides, Sample, Wrappers, mine
from kwatch.report.attribution import leaking_place
from kwatch.report.unsymbolized import NoSymbols
from kwatch.symbols.stack import Stack

APP = "/opt/app"
LIBRARY = "/usr/lib/x86_64-linux-gnu/libx.so.1"
C_LIBRARY = "/usr/lib/x86_64-linux-gnu/libc.so.6"


def frame(symbol, module=APP):
    return Frame(1, symbol, 1, module)


def stack(*symbols):
    return tuple(map(frame, symbols))


def shapes(**known):
    return lambda frame: known.get(frame.symbol, UNKNOWN)


def names(wrappers):
    return {row.function: row.evidence for row in wrappers.rows}


USERS = [f"user_{letter}" for letter in "abcdefgh"]
MANY = [Sample(stack("obtain", user, "main"), 3, size) for size, user in enumerate(USERS, 10)]


def test_many_callers_and_sizes_make_a_wrapper():
    found = mine(MANY, shapes())
    assert found.rows == (Wrapper("obtain", APP, 8, 8, 24, 1.0, Evidence.STACKS),)
    assert frame("obtain") in found
    assert frame("user_a") not in found


def test_a_constructor_has_one_size():
    samples = [sample._replace(size=64) for sample in MANY]
    assert names(mine(samples, shapes())) == {}


def test_a_function_that_calls_others_first_is_no_wrapper():
    samples = [*MANY, *(Sample(stack("deeper", "obtain", user), 1, 5) for user in USERS[:2])]
    assert "obtain" not in names(mine(samples, shapes()))


def test_the_code_may_say_otherwise():
    assert names(mine(MANY, shapes(obtain=Shape(True, False)))) == {}
    assert names(mine(MANY, shapes(obtain=Shape(False, True)))) == {}


def test_wrappers_of_wrappers():
    inner = stack("obtain", "counted")
    samples = [Sample((*inner, *each.frames[1:]), 1, each.size) for each in MANY]
    assert names(mine(MANY + samples, shapes())) == {
        "obtain": Evidence.STACKS,
        "counted": Evidence.STACKS,
    }


def test_one_stack_needs_the_code_or_a_name():
    one = [Sample(stack("obtain", "user_a", "main"), 1, 10)]
    assert names(mine(one, shapes())) == {}
    assert names(mine(one, shapes(obtain=Shape(True, True)))) == {"obtain": Evidence.CODE}
    named = [Sample(stack("xmalloc", "user_a", "main"), 1, 10)]
    assert names(mine(named, shapes())) == {"xmalloc": Evidence.NAME}
    assert names(mine(named, shapes(xmalloc=Shape(False, True)))) == {}
    assert frame("xmalloc") not in mine(named, shapes(xmalloc=Shape(False, True)))
    assert frame("xmalloc") in Wrappers()


def test_the_user_decides():
    overrides = Overrides(frozenset(["user_a"]), frozenset(["obtain"]))
    found = mine(MANY, shapes(obtain=Shape(True, True)), overrides)
    assert names(found) == {}
    assert frame("obtain") not in found
    assert frame("user_a") in found
    only = [Sample(stack("user_a(int)", "main"), 1, 10)]
    assert names(mine(only, shapes(), overrides)) == {"user_a(int)": Evidence.USER}


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([frame("f"), frame("main")], (BlockOwner.PROGRAM, APP)),
        ([frame("xmalloc"), frame("f"), frame("main")], (BlockOwner.PROGRAM, APP)),
        ([frame("x_new", LIBRARY), frame("main")], (BlockOwner.LIBRARY, LIBRARY)),
        ([frame("g_malloc", LIBRARY), frame("main")], (BlockOwner.PROGRAM, APP)),
        ([frame("strdup", C_LIBRARY), frame("main")], (BlockOwner.LIBRARY, C_LIBRARY)),
        ([frame("setenv", C_LIBRARY), frame("main")], (BlockOwner.LIBRARY_STATE, C_LIBRARY)),
        (
            [frame("worker", LIBRARY), frame("start_thread", C_LIBRARY)],
            (BlockOwner.LIBRARY_STATE, LIBRARY),
        ),
        ([Frame(1), frame("main")], (BlockOwner.PROGRAM, "")),
        ([], None),
    ],
)
def test_whose_blocks_are(frames, expected):
    assert block_owner(frames, APP, Wrappers().__contains__) == expected


def test_what_a_library_holds_is_its_state():
    frames = [frame("x_new", LIBRARY), frame("main")]
    is_wrapper = Wrappers().__contains__
    held = (BlockOwner.LIBRARY_STATE, LIBRARY)
    assert block_owner(frames, APP, is_wrapper, holders=[LIBRARY]) == held
    assert block_owner(frames, APP, is_wrapper, holders=[APP]) == (BlockOwner.LIBRARY, LIBRARY)


def test_a_reason_names_the_caller_of_a_wrapper():
    lost = Stack(frames=stack("obtain", "user_a", "main"))
    place = leaking_place(lost, NoSymbols(), APP, mine(MANY, shapes()))
    assert place == "user_a (app) through obtain (app)"
    assert leaking_place(lost, NoSymbols(), APP) == "obtain (app)"
