# SPDX-License-Identifier: Apache-2.0
"""Mappings of a process from the kernel's records, also when some records are lost."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from harness.nothing_held import nothing_held

from kwatch.model.options import TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.rings.perf_ring import ControlRecord, MappingRecord
from kwatch.session import tracees as module
from kwatch.session.lifecycle import Lifecycle, mapping_of
from kwatch.session.notices import Notices
from kwatch.session.tracees import Tracees
from kwatch.wire.events import CODE_UNMAPPED, EventType
from kwatch.wire.maps import Target

PID, MM_ID, PAGE = 7, 1234, 0x1000


def mapped(path: str, start: int = PAGE, time_ns: int = 1) -> MappingRecord:
    return MappingRecord(time_ns, PID, start, start + PAGE, 0, (8, 1), 42, path)


def unmapped(unmaps: int, start: int = PAGE, size: int = PAGE, time_ns: int = 2) -> ControlRecord:
    record = np.zeros(1, CODE_UNMAPPED)
    record["type"], record["tgid"], record["time_ns"] = EventType.CODE_UNMAPPED, PID, time_ns
    record["unmaps"], record["start"], record["size"] = unmaps, start, size
    return ControlRecord(time_ns, record.tobytes())


class Life:
    """One process. `now`: its mappings in /proc; `unmaps`: the kernel's count of unmaps."""

    def __init__(self):
        self.now, self.unmaps = [], 0
        targets = SimpleNamespace(get=lambda pid: Target(MM_ID, 0, self.unmaps))
        tracer = SimpleNamespace(
            attacher=SimpleNamespace(reads_all_registers=True, spares_returns=True), targets=targets
        )
        options, notices = TraceOptions(heap=False), Notices(lambda line: None)
        self.tracees = Tracees(options, tracer, None, notices, lambda process: None)
        self.lifecycle = Lifecycle(options, self.tracees, lambda time_ns: None, nothing_held())
        self.process = self.tracees.register(ProcessFacts(PID, 1.0, "app", "/app"))
        self.process.code.mm_id = MM_ID

    def apply(self, *records):
        for record in records:
            self.lifecycle.apply(record)

    def paths(self):
        return [mapping.path for mapping in self.process.code.space]


@pytest.fixture
def life(monkeypatch):
    made = Life()
    monkeypatch.setattr(module, "read_mappings", lambda pid: list(map(mapping_of, made.now)))
    return made


def test_a_file_that_was_unlinked_before_it_was_mapped():
    mapping = mapping_of(mapped("/tmp/plugin.so (deleted)"))
    assert mapping.path == "/tmp/plugin.so"


def test_a_file_that_is_there():
    mapping = mapping_of(mapped("/tmp/plugin.so"))
    assert mapping.path == "/tmp/plugin.so"


def test_what_is_mapped_over_other_code_stays(life):
    """The kernel records the mapping inside mmap(), the BPF programs the unmap when it returns."""
    life.apply(mapped("/a.so"), mapped("/b.so"), unmapped(1, size=0))
    assert life.paths() == ["/b.so"]
    assert life.process.code.unmaps == 1


def test_a_lost_record_is_missed_when_the_next_one_comes(life):
    life.apply(mapped("/a.so"), unmapped(1))
    assert (life.process.code.unmaps, life.lifecycle.missed_unmaps) == (1, 0)
    life.apply(unmapped(3))
    assert (life.process.code.unmaps, life.lifecycle.missed_unmaps) == (1, 1)


def test_mappings_that_were_lost_are_found_again(life):
    life.apply(mapped("/a.so"))
    epoch = life.process.code.epoch
    life.now, life.unmaps = [mapped("/b.so")], 2  # their records were lost
    life.tracees.reread(life.process)
    assert life.paths() == ["/b.so"]
    assert life.process.code.unmaps == 2
    assert life.process.code.epoch > epoch + 2  # the programs may have used these epochs


def test_records_from_before_say_nothing_new(life):
    life.now, life.unmaps = [mapped("/b.so")], 1
    life.tracees.reread(life.process)
    life.apply(mapped("/a.so"), unmapped(1))
    assert life.paths() == ["/b.so"]
    later = time.monotonic_ns()
    life.apply(unmapped(2, time_ns=later), mapped("/c.so", time_ns=later))
    assert life.paths() == ["/c.so"]
    assert (life.process.code.unmaps, life.lifecycle.missed_unmaps) == (2, 0)


def test_a_process_that_has_ended_keeps_its_mappings(life):
    life.apply(mapped("/a.so"))
    life.tracees.reread(life.process)
    assert life.paths() == ["/a.so"]
