# SPDX-License-Identifier: Apache-2.0
"""Which suspects become one error, and when it is told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kwatch.commands.check.log import ErrorLog
from kwatch.commands.check.stacks import StackSource
from kwatch.memory_errors.judge import ProcessState
from kwatch.memory_errors.probed_files import AllocatorFile, AllocatorFiles
from kwatch.memory_errors.suspects import Suspect, Suspicion, Use
from kwatch.model.frame import Frame
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import Lost
from kwatch.symbols.stack import Stack
from kwatch.wire.events import Chunk

LIBC = AllocatorFile("/lib/libc.so.6", False, False, since_ns=0)
FILES = AllocatorFiles({1: LIBC})
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
