# SPDX-License-Identifier: Apache-2.0
"""The registers of a process's threads, compared with those that ptrace reads."""

from __future__ import annotations

import platform

import pytest
from harness.blocking import wait_for_any_call, wait_for_calls

from kwatch.kernel import task_iterator
from kwatch.procfs.current_call import thread_ids
from kwatch.reach import threads as reach_threads
from kwatch.reach.memory import TargetMemory
from kwatch.reach.stopped import stopped
from kwatch.reach.threads import read_threads

IS_X86 = platform.machine() == "x86_64"
HOLDER = "r12" if IS_X86 else "x19"  # the register of tests/programs/registers.c
RESULT = "rax" if IS_X86 else "x0"

#: The threads of that program, and the calls in which they are.
BLOCKED = {"read": "read", "futex": "futex", "nanosleep": "clock_nanosleep", "epoll": "epoll_pwait"}
MORE = {f"more{number}": "read" for number in range(12)}


class Holders:
    """A running program whose threads hold known values."""

    def __init__(self, target):
        self.target, self.pid, said = target, target.pid, target.answers
        self.tids = {name[:-4]: tid for name, tid in said.items() if name.endswith("_tid")}
        self.running = {self.tids["spin"], self.tids["count"]}
        self.values = {tid: said[f"{name}_value"] for name, tid in self.tids.items()}
        calls = BLOCKED | MORE | {"handler": "read"}
        blocked = {self.tids[name]: call for name, call in calls.items()}
        wait_for_calls(self.pid, blocked | {self.pid: "read"})


@pytest.fixture
def holders(start):
    return Holders(start("registers"))


def register(state, name):
    return int(state.registers[state.names.index(name)])


def by_tid(states):
    return {state.tid: state for state in states}


def assert_hold(holders, states, names):
    tids = [holders.tids[name] for name in names]
    assert {tid: register(states[tid], HOLDER) for tid in tids} == {
        tid: holders.values[tid] for tid in tids
    }


def test_all_threads_are_read_with_their_registers(holders):
    states = by_tid(read_threads(holders.pid))
    assert set(states) == {holders.pid, *holders.tids.values()}
    assert all(state.has_registers for state in states.values())
    assert_hold(holders, states, [*BLOCKED, *MORE, "spin"])


def test_registers_equal_those_that_ptrace_reads(holders):
    """All of blocked threads, but the one that holds the call's number or its result."""
    live = by_tid(read_threads(holders.pid))
    with stopped(holders.pid) as stop:
        exact = by_tid(stop.threads)
    assert set(live) == set(exact)
    assert_hold(holders, exact, [*BLOCKED, *MORE, "spin"])
    differing = {
        name
        for tid in set(live) - holders.running
        for name in live[tid].names
        if register(live[tid], name) != register(exact[tid], name)
    }
    assert differing <= {RESULT}


def test_a_running_thread_is_sampled_each_time(holders):
    spin = holders.tids["spin"]
    for _ in range(20):
        (state,) = [each for each in read_threads(holders.pid) if each.tid == spin]
        assert register(state, HOLDER) == holders.values[spin]


def test_registers_of_a_running_thread_are_of_now(holders, monkeypatch):
    """Not those with which it was in the kernel last, such as when the program was loaded."""
    memory, counts = TargetMemory(holders.pid), []

    def counted():
        (count,) = memory.words(holders.target.answers["counter"], 1).tolist()
        return count

    def read_tasks(program, pid=0, read=task_iterator.bpf.read_tasks):
        counts.append(counted())
        return read(program, pid)

    monkeypatch.setattr(task_iterator.bpf, "read_tasks", read_tasks)
    for _ in range(50):
        counts.clear()
        state = by_tid(read_threads(holders.pid))[holders.tids["count"]]
        assert counts[0] <= register(state, HOLDER) <= counted() + 1
    memory.close()


def test_the_stack_of_a_signal_handler(holders):
    """The interrupted registers are on it, above the stack pointer."""
    said, tid = holders.target.answers, holders.tids["handler"]
    state = by_tid(read_threads(holders.pid))[tid]
    end = said["handler_stack"] + said["handler_stack_size"]
    assert said["handler_stack"] < state.stack_pointer < end
    memory = TargetMemory(holders.pid)
    words = memory.words(state.stack_pointer // 8 * 8, (end - state.stack_pointer) // 8)
    memory.close()
    assert holders.values[tid] in words


def test_registers_on_the_kernel_stack(holders, monkeypatch):
    """As on kernels without the helper that finds them."""
    ways = map(task_iterator._from_stack, task_iterator._STACK_SIZES)
    (way,) = filter(task_iterator._finds_registers, ways)
    monkeypatch.setattr(task_iterator, "_registers", lambda: way)
    assert_hold(holders, by_tid(read_threads(holders.pid)), [*BLOCKED, *MORE, "spin"])


def test_a_kernel_that_cannot_select_a_process(holders, monkeypatch):
    def refuse(program, pid=0, read=task_iterator.bpf.read_tasks):
        if pid:
            raise OSError(7, "the argument is too big")
        return read(program)

    monkeypatch.setattr(task_iterator.bpf, "read_tasks", refuse)
    assert_hold(holders, by_tid(read_threads(holders.pid)), [*BLOCKED, *MORE])


def test_without_bpf_nothing_is_claimed(holders, monkeypatch):
    def refuse(pid):
        raise OSError(1, "not permitted")

    exact = by_tid(read_threads(holders.pid))
    monkeypatch.setattr(reach_threads, "read_blocked", refuse)
    states = by_tid(read_threads(holders.pid))
    assert not any(state.has_registers or len(state.registers) for state in states.values())
    assert {tid for tid, state in states.items() if state.stack_pointer is None} == holders.running
    assert all(
        state.stack_pointer in (None, exact[tid].stack_pointer) for tid, state in states.items()
    )


def test_a_main_thread_that_has_ended(start):
    target = start("headless")
    (state,) = read_threads(target.pid)
    assert state.tid != target.pid
    assert state.has_registers


def test_threads_that_begin_and_end_meanwhile(start):
    """The kernel's iterator stops at a thread that ends: none of the others may be missing."""
    target = start("crowd", 1000000, 20)
    target.release()
    for _ in range(200):
        before = set(thread_ids(target.pid))
        states = by_tid(read_threads(target.pid))
        after = set(thread_ids(target.pid))
        assert before & after <= set(states)
        assert states[target.pid].has_registers


def test_no_call_is_interrupted(start):
    target = start("blocked")
    assert len(target.answers) == 16
    wait_for_any_call(target.pid, [target.pid, *target.answers.values()])
    for _ in range(100):
        assert len(read_threads(target.pid)) == 17
    assert target.go() == {"returned": 0, "interrupted": 0}
