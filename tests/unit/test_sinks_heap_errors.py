# SPDX-License-Identifier: Apache-2.0
"""Errors in the use of the heap, as people and programs read them."""

from __future__ import annotations

import json

from kwatch.model.frame import Ending, Frame
from kwatch.model.heap_error import CheckSummary, ErrorKind, ErrorStack, HeapError, StackRole
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import Lost
from kwatch.sinks.heap_errors import error_json, error_text, summary_json, summary_text

APP = ProcessFacts(7, 0.0, "app", "/app")
TIME = "2026-01-31T12:00:00.000Z"


def stack(role, function, *names, tid=7, ending=Ending.COMPLETE):
    frames = tuple(Frame(16, name, 4, "/app", "/app.c", 9) for name in names)
    return ErrorStack(role, function, tid, frames, ending)


def error(*stacks, message="Address 0x10 is 0 bytes inside a block of size 8 free'd", count=1):
    kind = ErrorKind.INVALID_FREE
    return HeapError(1, TIME, 0.5, APP, kind, "freed", message, 16, 7, count, stacks)


USE = stack(StackRole.USE, "free", "again", "main", "__libc_start_main")
FREED = stack(StackRole.FREED, "free", "first", tid=8)
ALLOCATED = stack(StackRole.ALLOCATED, "malloc", "make")


def lines(one):
    return error_text(one).splitlines()[1:]


def test_a_double_free_has_three_stacks():
    assert lines(error(USE, FREED, ALLOCATED)) == [
        "Invalid free() / delete / delete[] / realloc()",
        "    at free",
        "    by again+0x4 (app) app.c:9",
        "    by main+0x4 (app) app.c:9",
        "  Address 0x10 is 0 bytes inside a block of size 8 free'd",
        "    at free",
        "    by first+0x4 (app) app.c:9",
        "  Block was alloc'd at",
        "    at malloc",
        "    by make+0x4 (app) app.c:9",
        "",
    ]


def test_the_block_of_a_live_address_follows_the_message():
    found = lines(error(USE, ALLOCATED, message="Address 0x10 is 8 bytes inside a block alloc'd"))
    assert found[4:6] == ["  Address 0x10 is 8 bytes inside a block alloc'd", "    at malloc"]


def test_frames_that_are_missing_are_said_to_be():
    caller = stack(StackRole.USE, "free", "again", ending=Ending.OFF)
    assert lines(error(caller))[3] == "    [its callers were not recorded]"
    assert (
        lines(error(stack(StackRole.USE, "free", ending=Ending.LOST)))[2] == "    [no stack: lost]"
    )


def test_a_repeated_error_has_its_count():
    assert lines(error(USE, count=1234))[0].endswith("realloc() (1,234 times)")


def test_a_summary():
    lost = Lost(5, {"heap_ring_full": 5})
    summary = CheckSummary(TIME, 1.0, APP, (error(USE, count=3),), 4000, {"older": 2}, lost)
    assert summary_text(summary).splitlines() == [
        "app[7]: 3 errors in 4,000 releases",
        "  2 not judged: of blocks whose allocation was not seen",
        "  lost 5 events, which may hide errors; a larger --buffer may help",
    ]
    document = json.loads(summary_json(summary))
    assert (document["kind"], document["errors"][0]["count"]) == ("final", 3)


def test_json_has_every_stack():
    document = json.loads(error_json(error(USE, FREED)))
    assert (document["kind"], document["error"], document["address"]) == (
        *("error", "invalid_free"),
        "0x10",
    )
    assert [each["role"] for each in document["stacks"]] == ["use", "freed"]
    assert document["stacks"][1]["frames"][0]["symbol"] == "first"
