# SPDX-License-Identifier: Apache-2.0
"""Which blocks of a site are watched, told as stories of heap events."""

from __future__ import annotations

import time

from harness.records import heap_batch

from kwatch.model.frame import Frame
from kwatch.programs.sources import HEAP
from kwatch.watchpoints.blocks.parts import watch_blocks
from kwatch.watchpoints.options import WatchOptions
from kwatch.watchpoints.site import parse_site
from kwatch.wire.events import EventType

A, SITE_STACK, OTHER_STACK = 0x1000, 1, 2


class Watchpoint:
    """Notes where it is set."""

    current = None
    armed_ns = 0

    def arm(self, pid, mm_id, watched):
        self.current, self.armed_ns = watched, time.monotonic_ns()

    def disarm(self):
        self.current = None

    drop = disarm


class Names:
    """The stacks with SITE_STACK lead through make(); as a thread, it does each job at once."""

    def submit(self, job, urgent):
        job(self)

    def frames(self, stacks):
        return [(Frame(0, stack),) for stack in stacks]


class Story:
    def __init__(self, site):
        self.watchpoint = Watchpoint()
        self.blocks = watch_blocks(WatchOptions(parse_site(site)), self.watchpoint)
        self.blocks.stacks.add(SITE_STACK, "make")
        self.blocks.stacks.add(OTHER_STACK, "other")
        self.blocks.stacks.begin_naming(Names())

    def add(self, kind, stack=0, time_ns=None, address=A):
        fields = {"type": kind, "address": address, "size": 16 if stack else 0, "stack": stack}
        now = time.monotonic_ns() if time_ns is None else time_ns
        self.blocks.on_batch(HEAP, heap_batch([fields | {"time_ns": now}]))
        return self

    def alloc(self, stack, **more):
        return self.add(EventType.ALLOC, stack, **more)

    def free(self):
        return self.add(EventType.FREE)

    def watched(self, mm_id=1):
        self.blocks.arm(1, mm_id)
        return self.watchpoint.current and self.watchpoint.current.address


def test_a_block_of_the_site():
    assert Story("make").alloc(OTHER_STACK).watched() is None
    assert Story("make").alloc(SITE_STACK).watched() == A
    assert Story("make").alloc(SITE_STACK).free().watched() is None


def test_a_freed_block_of_the_site():
    story = Story("freed:make").alloc(SITE_STACK)
    assert story.watched() is None
    assert story.free().watched() == A
    assert story.alloc(OTHER_STACK).watched() is None


def test_a_block_of_another_site_where_the_free_of_one_was_lost():
    story = Story("freed:make").alloc(SITE_STACK).alloc(OTHER_STACK).free()
    assert story.watched() is None


def test_since_when_a_lost_event_may_have_ended_a_block():
    """Also of a freed block: another one may have been there when it was freed."""
    for site in ("make", "freed:make"):
        began = time.monotonic_ns()
        story = Story(site).alloc(SITE_STACK, time_ns=began)
        if site != "make":
            story.free()
        assert story.watched() == A
        assert story.blocks.now.since_ns == began


def test_events_of_an_earlier_program_that_come_late():
    story, before = Story("make").alloc(SITE_STACK), time.monotonic_ns()
    assert story.watched(mm_id=1) == A
    assert story.watched(mm_id=2) is None
    assert story.alloc(SITE_STACK, time_ns=before).watched(mm_id=2) is None
    assert story.alloc(SITE_STACK).watched(mm_id=2) == A
