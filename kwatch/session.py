# SPDX-License-Identifier: Apache-2.0
"""A session: applies the stream of events to the processes' accounts, in order of time."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from kwatch import events
from kwatch.aggregate.syscalls import CHUNK, SyscallAccount
from kwatch.errors import KwatchError
from kwatch.events import Batch, EventType
from kwatch.kernel.control_ring import Control, ControlRecord, MappingRecord, NameRecord
from kwatch.maps import TargetFlag
from kwatch.options import WatchOptions
from kwatch.probes.attach import EVERY_PROCESS
from kwatch.probes.coverage import Coverage, HeapProbes, MappedFile
from kwatch.registry import Process, Registry
from kwatch.snapshot import ProcessFacts
from kwatch.stacks import StackReader
from kwatch.stream import Drained, by_process, event_type
from kwatch.symbols.mappings import AddressSpace, Mapping, file_of, read_mappings
from kwatch.symbols.reader import Reader
from kwatch.symbols.symbolizer import Symbolizer
from kwatch.targets import processes
from kwatch.tracer import Tracer
from kwatch.unwinder import Unwinder

_MAX_IMAGES = 1024
_LOOK_S = 0.002  # between two looks for code that has been mapped
_STACKS_S = 0.002  # for the stacks of one batch
_MOST_WAITING = 4096


@dataclass(slots=True)
class _Image:
    """What an exec has mapped in a process that is not known yet; the program comes first."""

    space: AddressSpace = field(default_factory=AddressSpace)
    exe: str = ""


class Session:
    """Owns the accounts.

    `on_exit` is called with each process that ends, while it is still known; `announce`, which
    may be replaced, with a line for people when something more has been attached; `warn`, too,
    when a file cannot be read.
    """

    def __init__(
        self, options: WatchOptions, tracer: Tracer, on_exit: Callable[[Process], None]
    ) -> None:
        self.options = options
        self.registry = Registry(by_stack=options.profiles.wanted)
        self.syscalls = SyscallAccount()
        self.system = Coverage(EVERY_PROCESS)
        self.unreadable: set[int] = set()
        self._tracer = tracer
        self._on_exit = on_exit
        self.announce: Callable[[str], None] = lambda line: None
        self.warn: Callable[[str], None] = lambda line: None
        self._probes = HeapProbes(tracer.attacher, options.alloc_prefixes)
        self._unwinder: Unwinder | None = None
        self._stacks: StackReader | None = None
        if options.heap and options.stacks:
            self._unwinder = Unwinder(tracer.programs, lambda line: self.announce(line))
            self._stacks = StackReader(self._unwinder, self._open_symbolizer())
        self._images: dict[int, _Image] = {}
        self._ending: list[Process] = []
        self._next_look = 0.0
        self._calls: list[Batch] = []
        self._waiting: deque[ControlRecord] = deque()
        self._handlers: dict[int, Callable[[bytes], None]] = {
            EventType.FORK: self._forked,
            EventType.EXEC: self._execed,
            EventType.EXIT: self._exited,
            EventType.STACK: self._stack_seen,
            EventType.STACK_MEMORY: self._stack_copied,
            EventType.CODE_UNMAPPED: self._code_unmapped,
        }

    def attach(self, facts: ProcessFacts, by_comm: bool = False) -> Process:
        """Makes a running process a target and probes its allocators."""
        flags = TargetFlag.INHERIT if self.options.follow or by_comm else 0
        if by_comm and not self.options.follow:
            flags |= TargetFlag.BY_COMM
        process = self._register(facts)
        process.image = self._tracer.add_target(facts.pid, flags)
        if processes.is_alive(facts):
            self._joined(process, read_mappings if not by_comm else self._mappings)
            if self._unwinder is not None:
                self._unwinder.publish()
        else:  # between the first look and now
            process.facts = replace(facts, exited=True)
            self._end(process)
        return process

    def attach_launched(self, facts: ProcessFacts, files: list[str]) -> Process:
        """Makes a command a target before its exec; `files` are those that it will map."""
        flags = TargetFlag.WAITING | (TargetFlag.INHERIT if self.options.follow else 0)
        process = self._register(facts)
        process.image = self._tracer.add_target(facts.pid, flags)
        self._probe(process.coverage, map(_file_to_come, files))
        if self._unwinder is not None:
            self._unwinder.prepare(files)
        return process

    def attach_system(self) -> None:
        """Probes, for every process, the allocators that some process has mapped."""
        for pid in processes.all_pids():
            self._probe(self.system, _files_of(pid, self._mappings(pid)))

    def _open_symbolizer(self) -> Symbolizer:
        """The process that reads symbols must not be traced, or it would have stacks to read."""

        def started(pid: int) -> None:
            processes.OWN.add(pid)
            self._tracer.add_own(pid)

        def ending(pid: int) -> None:
            processes.OWN.discard(pid)
            self._tracer.forget_own(pid)

        symbolizer = Symbolizer(reader=Reader(started, ending))
        symbolizer.warn = lambda line: self.warn(line)
        return symbolizer

    def coverage(self, process: Process) -> Coverage:
        """What of the process's heap is seen."""
        return self.system if self.options.system_wide else process.coverage

    def gap(self, process: Process) -> str:
        """Why some of the process's heap may not have been seen; empty if all was."""
        if process.pid in self.unreadable:
            return "its mappings may not be read, so an allocator that it alone has is not hooked"
        return self.coverage(process).gap

    @property
    def unmatched_prefixes(self) -> list[str]:
        """The --alloc-prefix that have matched nothing so far."""
        return self._probes.unmatched if self.options.heap else []

    def _mappings(self, pid: int) -> list[Mapping]:
        """Those of a process that the user did not name: it may be one that may not be read."""
        try:
            return read_mappings(pid)
        except KwatchError:
            self.unreadable.add(pid)
            return []

    def _register(self, facts: ProcessFacts) -> Process:
        previous = self.registry.get(facts.pid)
        if previous is not None:
            previous.facts = replace(previous.facts, exited=True)
            self._end(previous)
        return self.registry.add(facts, self.options.heap)

    def _joined(self, process: Process, mappings_of: Callable[[int], list[Mapping]]) -> None:
        if not self.options.heap:
            self.announce(_named(process))
            return
        mappings = mappings_of(process.pid)
        for mapping in mappings:
            if mapping.path == "[heap]" and process.memory is not None:
                process.memory.start(mapping.end)
        self._mapped(process, mappings)

    def _mapped(self, process: Process, mappings: list[Mapping]) -> None:
        """Takes note of mappings, and probes the allocators among them."""
        code = [mapping for mapping in mappings if mapping.executable]
        covered = [process.space.add(mapping) for mapping in code]
        process.epoch += any(covered)
        if self._unwinder is not None:
            self._unwinder.load(process.pid, code)
        self._update_tables(process)
        if self._stacks is not None:
            self._stacks.prefetch(process, code)
        for hooked in self._probe(self.coverage(process), _files_of(process.pid, code)):
            self.announce(f"{_named(process)}; heap: {hooked}")

    def _update_tables(self, process: Process) -> None:
        if self._unwinder is not None:
            self._unwinder.update(process)

    def _probe(self, coverage: Coverage, files: Iterable[MappedFile]) -> list[str]:
        return self._probes.probe(coverage, files) if self.options.heap else []

    def concerns(self, record: Control) -> bool:
        """Whether the record says something of a process that is known, or may make one so."""
        return isinstance(record, ControlRecord) or self.registry.get(record.pid) is not None

    def apply(self, drained: Drained) -> None:
        """Hands a batch on. Heap events are interleaved with what happens to their processes.

        System calls come after the forks, which make their processes known, and before the ends.
        """
        done = 0
        self._calls = drained.syscalls
        self._load_tables(drained.control)
        times = drained.heap["time_ns"]
        for record in drained.control:
            if isinstance(record, ControlRecord):
                if event_type(record.data) in (EventType.STACK, EventType.STACK_MEMORY):
                    self._waiting.append(record)
                    continue
                self._read_stacks()  # while what they lead through is still mapped
                until = int(np.searchsorted(times, np.uint64(record.time_ns)))
                self._add_heap(drained.heap[done:until])
                done = max(done, until)
            self._control(record)
            self._look_for_code()
        self._add_heap(drained.heap[done:])
        self._read_stacks(_STACKS_S)
        calls, self._calls = self._calls, []
        for batch in calls:
            self._add_syscalls(batch)
        ending, self._ending = self._ending, []
        if ending:
            self._waiting.extend(self._tracer.stream.read_stacks())
            self._read_stacks()
        self.end(ending)
        if self._stacks is not None:
            self._stacks.batch_done()
        if self._unwinder is not None:
            self._unwinder.batch_done(self.registry)

    def _look_for_code(self) -> None:
        """Amid what may take long: code that has been mapped meanwhile."""
        now = time.monotonic()
        if now >= self._next_look:
            self._load_tables(self._tracer.stream.look_ahead())
            self._next_look = now + _LOOK_S

    def _load_tables(self, control: Iterable[Control]) -> None:
        """Of code that has just been mapped, before all else: it runs already."""
        if self._unwinder is None:
            return
        for record in control:
            if isinstance(record, MappingRecord) and self.registry.get(record.pid) is not None:
                self._unwinder.load(record.pid, [_mapping_of(record)])

    def _read_stacks(self, seconds: float = math.inf) -> None:
        """Reads the stacks that wait, at most so long.

        Each takes a hundred times as long as an event, and the rings of events must not fill up
        meanwhile; a stack that finds no room in its own ring is sent again.
        """
        until = time.monotonic() + seconds
        while self._waiting and time.monotonic() < until:
            self._control(self._waiting.popleft())
            self._look_for_code()
        self._tracer.stream.takes_stacks = len(self._waiting) < _MOST_WAITING

    @property
    def is_behind(self) -> bool:
        """Whether stacks wait to be read."""
        return bool(self._waiting)

    def _add_syscalls_until(self, time_ns: int) -> None:
        """Those that ended before a pid went to another process."""
        calls, self._calls = self._calls, []
        for batch in calls:
            count = int(np.searchsorted(batch["time_ns"], np.uint64(time_ns)))
            self._add_syscalls(batch[:count])
            self._calls.append(batch[count:])

    def _add_syscalls(self, batch: Batch) -> None:
        for start in range(0, len(batch), CHUNK):
            self._add_some_syscalls(batch[start : start + CHUNK])

    def _add_some_syscalls(self, batch: Batch) -> None:
        slots = self.registry.slots(batch["tgid"])
        if not slots.all():
            for pid in np.unique(batch["tgid"][slots == 0]).tolist():
                self._discover(pid)
            slots = self.registry.slots(batch["tgid"])
            # What is left are the last threads of processes whose end has been reported.
            batch, slots = batch[slots > 0], slots[slots > 0]
        self.syscalls.add(batch, slots)

    def _add_heap(self, batch: Batch) -> None:
        for pid, part in by_process(batch) if len(batch) else ():
            process = self.registry.get(pid) or self._discover(pid)
            if process is not None and process.heap is not None and process.memory is not None:
                process.heap.add(part)
                process.memory.add(part)

    def _discover(self, pid: int) -> Process | None:
        """A process whose events come before anything else is known of it; None if it is gone.

        What kwatch's own processes did before they were known as such is not reported.
        """
        found = processes.facts(pid) if pid not in processes.OWN else None
        if found is None:
            return None
        image = self._tracer.image(pid)  # before the mappings: those of a later image do no harm
        process = self._register(found)
        process.image = image
        if self.options.heap:
            self._mapped(process, self._mappings(pid))
        return process

    def _control(self, record: Control) -> None:
        if isinstance(record, ControlRecord):
            self._handlers[event_type(record.data)](record.data)
        elif isinstance(record, MappingRecord):
            self._mapping_seen(record)
        else:
            self._renamed(record)

    def _mapping_seen(self, record: MappingRecord) -> None:
        process, mapping = self.registry.get(record.pid), _mapping_of(record)
        if process is not None:
            if not process.facts.exe:  # after an exec, the program itself is mapped first
                process.facts = replace(process.facts, exe=record.path)
            if self.options.heap:
                process.coverage.late = True  # whatever is hooked now was mapped before
                self._mapped(process, [mapping])
        elif record.pid in self._images:
            image = self._images[record.pid]
            image.exe = image.exe or record.path
            image.space.add(mapping)

    def _renamed(self, record: NameRecord) -> None:
        process = self.registry.get(record.pid)
        if process is None:
            if record.is_exec and self.options.comms and len(self._images) < _MAX_IMAGES:
                self._images[record.pid] = _Image()
            return
        if record.is_exec:
            process.space.clear()
            process.image = process.unmaps = process.epoch = 0
            process.coverage.forget_image()
            process.facts = replace(process.facts, exe="")
        if record.tid == record.pid:
            process.facts = replace(process.facts, comm=record.comm)

    def _forked(self, data: bytes) -> None:
        record = np.frombuffer(data, events.FORK, 1)[0]
        parent = self.registry.get(int(record["tgid"]))
        pid, start_ns = int(record["child"]), int(record["child_start_ns"])
        comm = os.fsdecode(bytes(record["comm"]))
        if self.registry.get(pid) is not None:
            self._add_syscalls_until(int(record["time_ns"]))
        exe = parent.facts.exe if parent else ""
        child = self._register(ProcessFacts(pid, processes.start_time(start_ns), comm, exe))
        if parent is not None:
            child.space = parent.space.copy()
            child.stacks = dict(parent.stacks)
            child.endings = parent.endings.copy()
            child.forked_ns = int(record["time_ns"])
            if parent.heap is not None and parent.memory is not None:
                child.heap, child.memory = parent.heap.fork(), parent.memory.fork()
        child.image = int(record["image"])
        child.coverage.late = True
        self._joined(child, self._mappings)

    def _execed(self, data: bytes) -> None:
        record = np.frombuffer(data, events.EXEC, 1)[0]
        pid, comm = int(record["tgid"]), os.fsdecode(bytes(record["comm"]))
        process = self.registry.get(pid)
        image = self._images.pop(pid, None) or _Image()
        if not record["matched"]:
            if process is not None:
                self._ending.append(process)
            return
        if process is None:
            started = processes.start_time(int(record["start_ns"]))
            process = self._register(ProcessFacts(pid, started, comm, image.exe))
            process.space, process.image = image.space, int(record["image"])
            process.coverage.late = True
            self._joined(process, self._mappings)
        else:
            process.image = int(record["image"])
            self._new_image(process, int(record["old_tid"]))
        exe = processes.exe_of(pid) or process.facts.exe
        process.facts = replace(process.facts, comm=comm, exe=exe)

    def _new_image(self, process: Process, old_tid: int) -> None:
        """A known process has exec'ed."""
        process.stacks.clear()
        process.endings.clear()
        process.forked_ns = 0
        self._update_tables(process)
        if process.heap is None or process.memory is None:
            return
        process.heap.exec()
        process.memory.exec()
        if old_tid != process.pid:
            # The probes were bound to the thread that led the process, and which is gone.
            self._tracer.attacher.detach(process.pid)
            process.coverage = Coverage(process.pid, late=True)
            self._mapped(process, self._mappings(process.pid))

    def _exited(self, data: bytes) -> None:
        record = np.frombuffer(data, events.EXIT, 1)[0]
        process = self.registry.get(int(record["tgid"]))
        self._images.pop(int(record["tgid"]), None)
        if process is not None:
            process.facts = replace(process.facts, exited=True)
            self._ending.append(process)

    def _stack_seen(self, data: bytes) -> None:
        raw = self._stacks.whole(data) if self._stacks is not None else None
        if raw is None or self._stacks is None:
            return
        process = self.registry.get(raw.pid) or self._discover(raw.pid)
        if process is not None:
            self._stacks.add(process, raw)

    def _stack_copied(self, data: bytes) -> None:
        if self._stacks is not None:
            self._stacks.copied(data)

    def _code_unmapped(self, data: bytes) -> None:
        record = np.frombuffer(data, events.CODE_UNMAPPED, 1)[0]
        process = self.registry.get(int(record["tgid"]))
        if process is not None:
            start = int(record["start"])
            process.space.remove(start, start + int(record["size"]))
            process.unmaps = int(record["unmaps"])
            process.epoch += 1
            self._update_tables(process)

    def _end(self, process: Process) -> None:
        """The process has ended, or it is a target no more."""
        self._on_exit(process)
        self._tracer.attacher.detach(process.pid)
        self._tracer.forget_losses(process.pid)
        self.unreadable.discard(process.pid)
        self.syscalls.drop(process.slot)
        if self._unwinder is not None:
            self._unwinder.forget(process)
        self.registry.remove(process)

    def gone(self) -> list[Process]:
        """Processes that do not exist any more, though their exit has not been seen yet."""
        return [p for p in self.registry if not processes.is_alive(p.facts)]

    def end_gone(self, gone: list[Process]) -> None:
        """Ends those whose exit was not seen even now."""
        for process in gone:
            process.facts = replace(process.facts, exited=True)
        self.end(gone)

    def end(self, ending: list[Process]) -> None:
        for process in ending:
            if self.registry.get(process.pid) is process:
                self._end(process)

    def rename_targets(self, pids: Iterable[int]) -> None:
        """Processes with a new name: those that match now become targets."""
        for pid in pids:
            known = self.registry.get(pid) is not None or self._tracer.is_target(pid)
            if pid != os.getpid() and pid not in processes.OWN and not known:
                found = processes.facts(pid)
                if found is not None and processes.name_matches(pid, self.options.comms):
                    self.attach(found, by_comm=True)

    def settle(self, seconds: float) -> bool:
        """Waits so long at most for the names of all stacks; whether they are there."""
        if seconds:
            self._waiting.extend(self._tracer.stream.read_stacks())
            self._read_stacks()
        return self._stacks is None or (not self._waiting and self._stacks.settle(seconds))

    def close(self) -> None:
        if self._unwinder is not None:
            self._unwinder.close()
        if self._stacks is not None:
            self._stacks.close()


def _files_of(pid: int, mappings: Iterable[Mapping]) -> Iterator[MappedFile]:
    """The files whose code is mapped, as far as they can be opened."""
    for mapping in mappings:
        if mapping.executable and mapping.inode and (path := file_of(pid, mapping)):
            yield MappedFile((mapping.device, mapping.inode), path, mapping.path)


def _mapping_of(record: MappingRecord) -> Mapping:
    return Mapping(
        start=record.start,
        end=record.end,
        offset=record.offset,
        path=record.path,
        inode=record.inode,
        device=os.makedev(*record.device),
        executable=True,
        deleted=False,
    )


def _file_to_come(path: str) -> MappedFile:
    """A file that is not mapped yet."""
    status = os.stat(path)
    return MappedFile((status.st_dev, status.st_ino), path, path)


def _named(process: Process) -> str:
    return f"attached to {process.facts.comm}[{process.pid}]"


def now_ns() -> int:
    """The clock of the events."""
    return time.monotonic_ns()
