# SPDX-License-Identifier: Apache-2.0
"""Stacks with the same frames count as one stack."""

from __future__ import annotations

from kwatch.model.frame import Ending, Frame
from kwatch.model.process import ProcessFacts
from kwatch.probes.coverage import Coverage
from kwatch.processes.process import Process, Stacks
from kwatch.procfs.address_space import ReturnAddress
from kwatch.procfs.mappings import Mapping
from kwatch.report.stack_groups import StackGroups
from kwatch.symbols.stack import Stack


def call(address: int, path: str = "/app", inode: int = 1) -> ReturnAddress:
    return ReturnAddress(address, address - 1, Mapping(0, 4096, 0, path, inode, 1, True))


ONE, TWO = Stack(addresses=(call(1), call(2))), Stack(addresses=(call(1), call(3)))
NONE = Stack()


def process(pid: int = 1, **stacks: Stack) -> Process:
    ids = {int(name[1:]): frames for name, frames in stacks.items()}
    return Process(ProcessFacts(pid, 1.0, "app", ""), 1, Coverage(pid), heap_stacks=Stacks(ids))


def stack_groups() -> StackGroups:
    return StackGroups(lambda process: process.heap_stacks)


def test_the_first_id_stands_for_those_with_the_same_frames() -> None:
    same = stack_groups().of(process(_5=ONE, _6=TWO, _7=ONE, _8=TWO))
    assert same([5, 6, 7, 8]) == [5, 6, 5, 6]
    assert same([7]) == [5]


def test_stacks_without_frames_are_like_no_other() -> None:
    one = process(_5=NONE, _6=NONE)
    same = stack_groups().of(one)
    assert same([5, 6, 9, 10]) == [5, 6, 9, 10]
    one.heap_stacks.by_id |= {9: ONE, 10: ONE}  # sent again after a loss
    assert same([9, 10]) == [9, 9]


def test_an_exec_takes_the_stacks_away() -> None:
    one, all_ = process(_5=ONE, _6=ONE), stack_groups()
    assert all_.of(one)([5, 6]) == [5, 5]
    one.heap_stacks.by_id = {7: ONE, 8: ONE, 9: TWO}
    assert all_.of(one)([7, 8, 9]) == [7, 7, 9]


def test_names_make_no_difference() -> None:
    named = Stack(
        addresses=ONE.addresses,
        frames=(Frame(1, "inner", inlined=True), Frame(1, "outer")),
    )
    same = stack_groups().of(process(_5=ONE, _6=named))
    assert same([5, 6]) == [5, 5]


def test_libraries_make_a_difference_at_the_same_addresses() -> None:
    one, again, other = (
        Stack(addresses=(call(1, path), call(2)))
        for path in ("/lib/a.so", "/lib/a.so", "/lib/b.so")
    )
    same = stack_groups().of(process(_5=one, _6=other, _7=again))
    assert same([5, 6, 7]) == [5, 6, 5]


def test_what_anonymous_memory_is_called_makes_no_difference() -> None:
    one, other = (Stack(addresses=(call(1, path, inode=0),)) for path in ("", "[anon: code]"))
    same = stack_groups().of(process(_5=one, _6=other))
    assert same([5, 6]) == [5, 5]


def test_how_a_stack_ends_makes_a_difference() -> None:
    endings = Ending.TOO_DEEP, Ending.FINISHED
    cut, finished = (Stack(addresses=ONE.addresses, ending=ending) for ending in endings)
    same = stack_groups().of(process(_5=ONE, _6=cut, _7=finished))
    assert same([5, 6, 7]) == [5, 6, 5]  # both are whole


def test_processes_have_nothing_in_common() -> None:
    all_ = stack_groups()
    assert all_.of(process(1, _5=ONE))([5]) == [5]
    assert all_.of(process(2, _6=ONE))([6]) == [6]
