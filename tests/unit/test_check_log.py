# SPDX-License-Identifier: Apache-2.0
"""Which suspects become one error, and when it is told."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from types import SimpleNamespace

import pytest

from kwatch.commands.check.log import ErrorLog
from kwatch.commands.check.stacks import StackSource
from kwatch.memory_errors.judge import ProcessState
from kwatch.memory_errors.probed_files import AllocatorFile, AllocatorFiles
from kwatch.memory_errors.suspects import Block, Suspect, Suspicion, Use
from kwatch.model.frame import Frame
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import Lost
from kwatch.session.loss_periods import LATE_NS
from kwatch.symbols.stack import Stack
from kwatch.symbols.symbolizer_thread import SymbolizerThread
from kwatch.wire.events import Chunk

LIBC = AllocatorFile("/lib/libc.so.6", False, False, since_ns=0)
STATIC = AllocatorFile("/app", False, False, since_ns=0)
FILES = AllocatorFiles({1: LIBC, 2: STATIC})
FRAMES = (Frame(16, "main", module="/app"),)


class Process:
    """One with suspects to come."""

    pid, heap_stacks = 1, SimpleNamespace(find=lambda stack: Stack(frames=FRAMES))
    code, facts = SimpleNamespace(space=()), ProcessFacts(1, 0.0, "app", "/app")

    def __init__(self):
        self.suspects = []
        self.accounts = SimpleNamespace(checks=self)
        self.releases = self.skipped = 0

    def take(self):
        taken, self.suspects = self.suspects, []
        return taken


class States:
    """Nothing is lost, until `losses` says so."""

    all_files = FILES

    def __init__(self):
        self.losses = []

    def of(self, process):
        return ProcessState([LIBC], False, self.losses)

    def forget(self, process):
        """Nothing is kept."""


class Symbolizer:
    """Names at once."""

    def submit(self, job, urgent):
        job(self)

    def frames(self, stacks):
        return [stack.frames for stack in stacks]


class SlowSymbolizer(Symbolizer):
    """Has no names until it has to hurry, and then none either."""

    def __init__(self, module):
        self._hurried, self._module = threading.Event(), module

    def hurry(self):
        self._hurried.set()

    def frames(self, stacks):
        self._hurried.wait()
        return [(Frame(16, module=self._module),) for _ in stacks]


@pytest.fixture
def states():
    return States()


@pytest.fixture
def log(states):
    return ErrorLog(states, StackSource(None, of_frees=True), Symbolizer())


def of_no_block(address, stack):
    return Suspect(Suspicion.UNKNOWN, address, Use(5, 1, stack, 0, 1), Chunk.INVALID, False)


def summary_of(log, process, *suspects):
    process.suspects += suspects
    log.look(process)
    log.ask_names(process)
    log.take_named()
    return log.summary(process, Lost())


def test_one_stack_is_one_error(log):
    found = summary_of(log, Process(), of_no_block(8, 999), of_no_block(24, 999))
    assert [error.count for error in found.errors] == [2]


@pytest.mark.parametrize("stack", [0, 1])
def test_without_stacks_each_address_is_an_error(log, stack):
    suspects = [of_no_block(address, stack) for address in (8, 24, 8)]
    found = summary_of(log, Process(), *suspects)
    assert [(error.address, error.count) for error in found.errors] == [(8, 2), (24, 1)]


def freed_twice(now):
    block = Block(8, 16, Use(now - 2, 1, 998, 0, 1), Use(now - 1, 1, 997, 0, 1))
    return Suspect(Suspicion.FREED, 8, Use(now, 1, 999, 0, 1), 0, False, block)


def found_now(log, process):
    log.look(process)
    log.ask_names()
    return log.take_named()


def test_an_error_waits_until_no_late_loss_can_explain_it(log, states):
    process, now = Process(), time.monotonic_ns()
    process.suspects = [freed_twice(now)]
    assert found_now(log, process) == []
    states.losses = [(now - 1, now)]
    found = summary_of(log, process)
    assert (found.errors, found.unknown) == ((), {"lost": 1})


def test_an_old_error_does_not_wait(log):
    process = Process()
    process.suspects = [freed_twice(time.monotonic_ns() - LATE_NS)]
    assert len(found_now(log, process)) == 1


def test_after_a_lost_one_the_same_stacks_are_an_error(log, states):
    process, now = Process(), time.monotonic_ns() - 2 * LATE_NS
    process.suspects = [freed_twice(now)]
    log.look(process)
    states.losses = [(now - 1, now)]
    log.ask_names()
    assert log.take_named() == []
    process.suspects = [freed_twice(now + 9)]
    assert len(found_now(log, process)) == 1
    assert log.summary(process, Lost()).unknown == {"lost": 1}


@pytest.mark.parametrize(
    ("suspect", "module", "is_error"),
    [
        (of_no_block(8, 999), STATIC.path, True),
        (freed_twice(5), "/other", True),
        (freed_twice(5), STATIC.path, False),  # by a thread that ends, perhaps
    ],
)
def test_an_error_is_told_without_names_if_there_is_no_time(states, suspect, module, is_error):
    process = Process()
    process.suspects = [suspect]
    with closing(SymbolizerThread(SlowSymbolizer(module))) as thread:
        log = ErrorLog(states, StackSource(None, of_frees=True), thread)
        log.look(process)
        log.ask_names(process)
        assert log.take_named() == []
        while not log.is_done(process):
            log.check(in_hurry=True)
            log.take_named()
    assert log.errors == is_error
