# SPDX-License-Identifier: Apache-2.0
"""Finds the program of a child from its fork, its exec and its first mappings."""

from __future__ import annotations

import pytest
from harness.story import CHILD, LATER_NS, PID, Birth, facts

from kwatch.model.process import ProcessFacts
from kwatch.targets import processes
from kwatch.wire.events import ForkKind

LIBC = "/usr/lib/libc.so.6"


@pytest.fixture(params=[{}, {"heap": False}], ids=["heap", "no heap"])
def birth(monkeypatch, request):
    return Birth(monkeypatch, **request.param)


def test_a_child_without_an_exec_runs_its_parents_program(birth):
    birth.forks()
    birth.mapped(LIBC)
    assert birth.exits("sh").exe == "/bin/sh"


def test_the_program_of_a_child_that_is_gone_is_what_its_exec_mapped_first(birth):
    birth.forks()
    birth.renamed("true")
    birth.mapped("/bin/true", "/lib/ld.so")
    birth.execed("true")
    birth.mapped(LIBC)
    assert birth.exits("true").exe == "/bin/true"


def test_without_the_records_of_an_exec_the_program_is_unknown(birth):
    """The kernel sends no mapping records when none are requested."""
    birth.forks()
    birth.execed("true")
    birth.mapped(LIBC)
    assert birth.exits("true").exe == ""


def test_without_the_programs_own_mapping_it_is_unknown(birth):
    birth.forks()
    birth.lifecycle.has_gaps = True
    birth.renamed("true")
    birth.mapped("/lib/ld.so")
    birth.execed("true")
    birth.mapped(LIBC)
    assert birth.exits("true").exe == ""


def test_an_exec_of_which_nothing_came_is_told_by_the_exit(birth):
    birth.forks()
    birth.lifecycle.has_gaps = True
    facts = birth.exits("true")
    assert (facts.comm, facts.exe) == ("true", "")


def test_a_path_that_the_kernel_could_not_tell_is_none(birth):
    birth.forks()
    birth.renamed("true")
    birth.mapped("//toolong")
    birth.execed("true")
    assert birth.exits("true").exe == ""


def test_proc_has_the_program_of_a_child_that_runs(birth):
    birth.running[CHILD] = ProcessFacts(CHILD, processes.start_time(LATER_NS), "true", "/bin/true")
    birth.forks()
    birth.execed("true")
    assert birth.tracees.process_table.get(CHILD).facts.exe == "/bin/true"


def test_a_child_that_a_stack_made_known_before_its_fork_is_one_process(birth):
    started = processes.start_time(LATER_NS)
    birth.running[CHILD] = ProcessFacts(CHILD, started, "true", "/bin/true")
    birth.tracer.mm_ids[CHILD] = 9
    child = birth.tracees.discover(CHILD)
    birth.forks()
    assert birth.ended == []
    assert birth.tracees.process_table.get(CHILD) is child
    assert child.facts.exe == "/bin/true"
    assert child.forked_ns == birth.at


def test_a_child_of_a_process_that_is_not_known(birth):
    """System-wide: the parent has made no traced event so far."""
    birth.tracees.end([birth.process])
    birth.running[CHILD] = ProcessFacts(CHILD, processes.start_time(LATER_NS), "sh", "/bin/sh")
    birth.forks()
    assert birth.tracees.process_table.get(CHILD).facts.exe == "/bin/sh"


def test_after_losses_a_process_is_what_it_is_now(birth):
    birth.running[PID] = facts("nginx")
    birth.tracer.get = lambda pid: None
    birth.tracees.reread(birth.process)
    assert birth.process.facts == facts("nginx")


def test_a_child_that_shares_the_memory_has_no_heap_until_its_exec(birth):
    parents = birth.process.heap
    birth.forks(ForkKind.SHARES)
    child = birth.tracees.process_table.get(CHILD)
    assert (child.shares, child.heap, child.memory) == (PID, None, None)
    assert birth.tracees.owner_of_heap(child) is birth.process
    birth.renamed("true")
    birth.mapped("/bin/true")
    birth.execed("true")
    assert (child.shares, child.heap is None) == (0, parents is None)
    assert birth.process.heap is parents


def test_children_that_are_not_traced_are_named_once(birth):
    birth.forks(ForkKind.UNTRACED)
    birth.forks(ForkKind.UNTRACED)
    assert birth.tracees.process_table.get(CHILD) is None
    assert [line for line in birth.said if "forks" in line] == [f"sh[{PID}] forks"]
