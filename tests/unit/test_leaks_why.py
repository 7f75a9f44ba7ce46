# SPDX-License-Identifier: Apache-2.0
"""What holds a block, as it is shown."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kwatch.commands.leaks.why import class_name
from kwatch.model.holders import HolderPath, PathStep
from kwatch.model.process import ProcessFacts
from kwatch.model.reach import Reach
from kwatch.reach.block_table import SCANNED
from kwatch.reach.holders import KernelRoot, RegisterRoot, WordRoot
from kwatch.reach.regions import Region
from kwatch.reach.root_names import root_group, root_name
from kwatch.reach.thread_state import ThreadState
from kwatch.sinks.holders import json_line, text

APP = ProcessFacts(7, 1.0, "app", "/bin/app")
NO_REGISTERS = np.empty(0, np.uint64)


class NoVariables:
    def name(self, address):
        return ""

    def place(self, address):
        return None


def region(path="", start=0x1000, end=0x9000):
    return Region(start, end, "rw-p", 0, path)


@pytest.mark.parametrize(
    ("address", "expected"),
    [(0xFFF, ""), (0x1000, "definite"), (0x1017, "definite"), (0x1018, ""), (0x2000, "possible")],
)
def test_the_class_of_the_block_that_contains_an_address(address, expected):
    rows = [(0x1000, 24, Reach.DEFINITE, 0, 0), (0x2000, 0, Reach.POSSIBLE, 0, 0)]
    assert class_name(np.array(rows, SCANNED), address) == expected


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        (RegisterRoot(9, "rbx"), "register rbx of thread 9"),
        (KernelRoot("data of epoll descriptor 3"), "the kernel: data of epoll descriptor 3"),
        (WordRoot(0x2100, region()), "the stack of thread 9, 0x100 above its stack pointer"),
        (WordRoot(0xA100, region("", 0xA000, 0xB000)), "anonymous memory"),
        (WordRoot(0xA100, region("[heap]", 0xA000, 0xB000)), "the heap, in no block"),
        (WordRoot(0xA100, region("/dev/shm/x", 0xA000, 0xB000)), "/dev/shm/x"),
    ],
)
def test_roots_without_a_variable(root, expected):
    threads = [
        ThreadState(8, NO_REGISTERS, None, ()),
        ThreadState(9, NO_REGISTERS, 0x2000, ()),
    ]
    assert root_name(root, threads, NoVariables()) == expected


def test_a_word_on_a_stack_is_named_by_its_frame():
    def function_at(thread, mapped, address):
        return f"f{address - mapped.start:#x}"

    threads = [ThreadState(9, NO_REGISTERS, 0x2000, ())]
    root = WordRoot(0x2100, region())
    expected = "the stack of thread 9, in the frame of f0x1100"
    assert root_name(root, threads, NoVariables(), function_at=function_at) == expected
    assert root_group(root, threads, NoVariables()) == "the stack of thread 9"


def test_thread_local_memory_is_named_by_its_thread():
    """Also in the mapping of a stack."""
    threads = [ThreadState(9, NO_REGISTERS, 0x2000, ())]
    for root in (WordRoot(0x2100, region()), WordRoot(0xA100, region("", 0xA000, 0xB000))):
        named = (root, threads, NoVariables(), lambda address: 9)
        assert root_name(*named) == root_group(*named) == "thread-local memory of thread 9"


def path(steps):
    return HolderPath(
        *("2026-01-31T12:00:00.000Z", APP, 0x5010, "reachable", "cache (app)", 0x4000),
        tuple(
            PathStep(0x5000 + 64 * n, 48, n, None if n == steps - 1 else 8) for n in range(steps)
        ),
    )


def test_a_path_has_one_line_for_each_step():
    assert text(path(2)).splitlines() == [
        "app[7]: 0x5010 is still reachable",
        "  cache (app)  0x4000",
        "  -> block 0x5000 (48 B), its word +0x8",
        "  -> block 0x5040 (48 B) at +0x1",
    ]


def test_a_long_path_loses_its_middle():
    lines = text(path(1000)).splitlines()
    assert len(lines) == 2 + 8 + 1 + 8
    assert "  ... 984 more" in lines


def test_nothing_holds_what_is_lost():
    lost = HolderPath("", APP, 0x5000, "definite")
    assert text(lost) == "app[7]: 0x5000 is definitely lost: nothing holds it\n"


def test_the_json_has_the_documented_keys():
    found = json.loads(json_line(path(2)))
    assert (found["kind"], found["class"], found["root"]) == ("why", "reachable", "cache (app)")
    assert (found["address"], found["root_address"]) == ("0x5010", "0x4000")
    assert found["path"][0] == {"address": "0x5000", "size": 48, "entry": 0, "pointer": 8}
