# SPDX-License-Identifier: Apache-2.0
"""Processes that exist only in a test: control records tell what happens to them."""

from __future__ import annotations

import time
from types import SimpleNamespace

from harness.nothing_held import nothing_held
from harness.records import control_record
from kwatch.model.options import TraceOptions
from kwatch.model.process import ProcessFacts
from kwatch.rings.perf_ring import MappingRecord, NameRecord
from kwatch.session import tracees as module
from kwatch.session.attaching import Attaching
from kwatch.session.lifecycle import Lifecycle
from kwatch.session.notices import Notices
from kwatch.session.tracees import Tracees
from kwatch.targets import processes
from kwatch.wire.events import EventType, ForkKind
from kwatch.wire.maps import Target

PID = 7
START_NS = 5_000_000_000
LATER_NS = START_NS + 20_000_000
CHILD = 8


def facts(comm, start_ns=START_NS):
    return ProcessFacts(PID, processes.start_time(start_ns), comm, f"/bin/{comm}")


class Targets:
    """Stands for the tracer and for the BPF map of targets."""

    def __init__(self):
        self.mm_ids = {}
        self.targets = self
        self.own: set[int] = set()
        self.attacher = SimpleNamespace(
            detach=lambda pid: None,
            left_child_line=lambda parent: f"{parent} forks",
            reads_all_registers=True,
            spares_returns=True,
        )
        self.losses = SimpleNamespace(forget=lambda pid: None)
        self.slots = SimpleNamespace(note_threads=lambda pid: None)

    def add(self, pid, flags):
        self.mm_ids[pid] = 1000 + len(self.mm_ids)
        return Target(self.mm_ids[pid], flags)

    def mm_id(self, pid):
        return self.mm_ids.get(pid, 0)

    def owner(self, pid):
        return 0

    def __contains__(self, pid):
        return pid in self.mm_ids

    def remove(self, pid, mm_id):
        return self.mm_ids.get(pid) == mm_id and self.mm_ids.pop(pid) == mm_id


class Story:
    """`running`: the processes in /proc; `ended`: the processes that were reported."""

    def __init__(self, monkeypatch, **options):
        self.running = {PID: facts("sh")}
        self.ended = []
        self.reused = []
        self.tracer = Targets()
        options = TraceOptions(**{"comms": ("sh",), "heap_stacks": False, **options})
        self.said = []
        notices = Notices(self.said.append)
        notices.start_announcing()
        self.tracees = Tracees(options, self.tracer, None, notices, self.ended.append)
        self.attaching = Attaching(options, self.tracer, None, self.tracees)
        self.lifecycle = Lifecycle(options, self.tracees, self.reused.append, nothing_held())
        monkeypatch.setattr(module, "read_mappings", lambda pid: [])
        monkeypatch.setattr(processes, "facts", self.running.get)
        monkeypatch.setattr(processes, "name_matches", self.matches)
        monkeypatch.setattr(processes, "exe_of", lambda pid: self.now(pid, "exe"))
        monkeypatch.setattr(processes, "comm_of", lambda pid: self.now(pid, "comm"))

    def now(self, pid, fact):
        return getattr(self.running[pid], fact) if pid in self.running else ""

    def matches(self, pid, names):
        return self.running[pid].comm in names

    @property
    def process(self):
        return self.tracees.process_table.get(PID)

    def attach(self):
        self.attaching.attach(self.running[PID], by_comm=True)
        return self.process

    def renamed_by_exec(self, comm, time_ns):
        self.lifecycle.apply(NameRecord(time_ns, PID, PID, comm, is_exec=True))

    def maps(self, path, time_ns, pid=PID):
        self.lifecycle.apply(MappingRecord(time_ns, pid, 0x1000, 0x2000, 0, (8, 1), 12, path))

    def happens(self, kind, time_ns, **fields):
        fields = {"tgid": PID, "start_ns": START_NS, **fields}
        self.lifecycle.apply(control_record(kind, time_ns, **fields))

    def execs(self, comm, time_ns, mm_id=0, start_ns=START_NS):
        self.renamed_by_exec(comm, time_ns - 1)
        fields = {"old_tid": PID, "start_ns": start_ns, "comm": comm.encode()}
        self.happens(EventType.EXEC, time_ns, matched=bool(mm_id), mm_id=mm_id, **fields)


class Birth(Story):
    """A child that has ended before kwatch looks at /proc; its parent runs /bin/sh."""

    def __init__(self, monkeypatch, **options):
        super().__init__(monkeypatch, comms=(), pids=(PID,), follow=True, **options)
        self.attaching.attach(self.running[PID])
        self.at = time.monotonic_ns()

    def forks(self, kind=ForkKind.TRACED):
        fields = {"child_kind": kind, "tgid": PID}
        fields |= {"child": CHILD, "child_start_ns": LATER_NS, "comm": b"sh"}
        self.lifecycle.apply(control_record(EventType.FORK, self.at, **fields))

    def renamed(self, comm):
        self.lifecycle.apply(NameRecord(self.at + 1, CHILD, CHILD, comm, is_exec=True))

    def mapped(self, *paths):
        for path in paths:
            self.maps(path, self.at + 2, CHILD)

    def execed(self, comm):
        fields = {"old_tid": CHILD, "start_ns": LATER_NS, "comm": comm.encode(), "mm_id": 9}
        record = control_record(EventType.EXEC, self.at + 3, tgid=CHILD, matched=True, **fields)
        self.lifecycle.apply(record)

    def exits(self, comm):
        fields = {"tgid": CHILD, "start_ns": LATER_NS, "comm": comm.encode()}
        self.lifecycle.apply(control_record(EventType.EXIT, self.at + 4, **fields))
        self.tracees.end(self.lifecycle.ending)
        return self.ended[-1].facts
