# SPDX-License-Identifier: Apache-2.0
"""The kernel side of a session: programs, rings, probes, the set of target processes."""

from __future__ import annotations

import os
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing

import numpy as np
import numpy.typing as npt

from kwatch.kernel import bpf, perf
from kwatch.model.options import WatchOptions
from kwatch.probes.attach import Attacher
from kwatch.programs import tracepoints
from kwatch.programs.loader import Programs
from kwatch.programs.tracepoints import TRACEPOINTS
from kwatch.rings.stream import Stream
from kwatch.syscalls.names import everything
from kwatch.syscalls.select import numbers
from kwatch.targets import globs
from kwatch.wire.events import Abi, Loss
from kwatch.wire.maps import (
    CALL_NUMBERS,
    CALL_ROLE_SHIFT,
    Call,
    CallFlag,
    LossKey,
    MemoryRole,
    Target,
    TargetFlag,
)

#: Beside the causes of `kwatch.wire.events.Loss`: a mapping or a new name went unseen.
LOST_MAPPINGS = "mapping_record_lost"
#: The kernel has skipped a program: see kwatch.kernel.bpf.recursion_misses.
MISSED_TRACEPOINTS = "tracepoint_missed"
_CONTROL_LOST = Loss.CONTROL_RING_FULL.name.lower()

_MEMORY_ROLES = {
    "mmap": MemoryRole.MMAP,
    "mmap2": MemoryRole.MMAP,
    "munmap": MemoryRole.MUNMAP,
    "mremap": MemoryRole.MREMAP,
    "brk": MemoryRole.BRK,
}
_NO_RETURN = frozenset(["exit", "exit_group"])


def call_flags(options: WatchOptions, everything: frozenset[str]) -> npt.NDArray[np.uint8]:
    """What the BPF programs do with each call: the values of their map."""
    wanted = everything if options.trace is None else options.trace
    traced = wanted if options.syscalls else frozenset()
    flags = np.zeros((len(Abi), CALL_NUMBERS), np.uint8)
    for abi in Abi:
        flags[abi, list(numbers(traced, abi))] |= int(CallFlag.TRACE)
        flags[abi, list(numbers(_NO_RETURN, abi))] |= int(CallFlag.NO_RETURN)
        for name, role in _memory_roles(options):
            if abi is Abi.I386 and name == "mmap":
                role = MemoryRole.OLD_MMAP
            called = list(numbers(frozenset([name]), abi))
            flags[abi, called] |= int(CallFlag.MEMORY | role << CALL_ROLE_SHIFT)
    return flags.reshape(-1)


def _memory_roles(options: WatchOptions) -> Iterator[tuple[str, MemoryRole]]:
    """Calls that change the memory, as far as it matters; stacks do not mind `brk`."""
    for name, role in _MEMORY_ROLES.items() if options.mappings else ():
        if options.heap or role is not MemoryRole.BRK:
            yield name, role


class Tracer:
    """The loaded programs, which it closes; constructed, all is attached but single processes."""

    def __init__(self, options: WatchOptions, programs: Programs) -> None:
        """Raises KwatchError."""
        self.programs = programs
        self._tracepoints: list[int] = []
        self._forgotten_control = 0  # records lost of processes that have ended
        self._nobodys: Counter[Loss] = Counter()
        # Else they tell the paths of executables, which are empty without them.
        self._counts_on_mappings = options.mappings or bool(options.comms)
        with ExitStack() as stack:
            stack.callback(programs.close)
            if options.heap and not programs.ways.uprobe_links:
                perf.uprobe_type()  # before there is anything to probe, all of which would fail
            self._configure(options)
            self.stream = stack.enter_context(closing(Stream(programs, options)))
            self.attacher = stack.enter_context(closing(Attacher(programs)))
            stack.callback(self.stop)
            for name, tracepoint in TRACEPOINTS.items():
                program, through_perf = programs.programs[name], programs.ways.perf_tracepoints
                self._tracepoints.append(tracepoints.attach(tracepoint, program, through_perf))
            self._opened = stack.pop_all()

    def _configure(self, options: WatchOptions) -> None:
        maps = self.programs.maps
        self.add_target(os.getpid(), TargetFlag.OWN)  # but its children may be: a command
        maps["call_flags"].set_many(0, call_flags(options, everything()).tobytes())
        for index, pattern in enumerate(filter(None, map(globs.automaton, options.comms))):
            maps["patterns"].set(struct.pack("I", index), pattern)

    def add_target(self, pid: int, flags: int) -> Target:
        """From now on the process is traced. `mm_id` tells its address space from others.

        One that an exec has made a target keeps the mm_id that the record of the exec has.
        """
        targets, key = self.programs.maps["targets"], struct.pack("I", pid)
        fresh = Target((time.monotonic_ns() << 16 ^ pid) & (1 << 64) - 1, flags)
        while not targets.add(key, bytes(fresh)):
            known = self.target(pid)
            if known is not None:
                if known.flags != flags:
                    known.flags = flags
                    targets.set(key, bytes(known))
                return known
        return fresh

    def mm_id(self, pid: int) -> int:
        """The mm_id of a target; 0 if the process is none."""
        target = self.target(pid)
        return target.mm_id if target is not None else 0

    def target(self, pid: int) -> Target | None:
        """What the programs know of a process, if they trace it, or if it is kwatch's."""
        found = self.programs.maps["targets"].get(struct.pack("I", pid))
        return Target.from_buffer_copy(found) if found is not None else None

    def add_own(self, pid: int) -> None:
        """A process of kwatch's, which no name and no system-wide trace makes a target.

        Nor are its children.
        """
        self.add_target(pid, TargetFlag.OWN | TargetFlag.INHERIT)

    def forget_own(self, pid: int) -> None:
        """It is ending; its pid may come to another process."""
        self.programs.maps["targets"].delete(struct.pack("I", pid))

    def remove_target(self, pid: int, mm_id: int) -> bool:
        """Whether it was one until now; another process that has its pid by now is left alone."""
        if not mm_id or self.mm_id(pid) != mm_id:
            return False
        self.programs.maps["targets"].delete(struct.pack("I", pid))
        return True

    def is_target(self, pid: int) -> bool:
        return self.target(pid) is not None

    def losses(self) -> dict[int, dict[str, int]]:
        """Events lost since the start by process and cause; process 0: not known whose."""
        found: dict[int, dict[str, int]] = defaultdict(Counter)
        for key, value in self.programs.maps["losses"].items():
            lost = LossKey.from_buffer_copy(key)
            found[lost.tgid][Loss(lost.cause).name.lower()] = struct.unpack("Q", value)[0]
        for cause, count in self._nobodys.items():
            found[0][cause.name.lower()] += count
        unseen = self.stream.lost_control_records
        ours = sum(causes.get(_CONTROL_LOST, 0) for causes in found.values())
        ours += self._forgotten_control
        # The rest are records of the kernel's own: mappings and names.
        if unseen > ours and self._counts_on_mappings:
            found[0][LOST_MAPPINGS] = unseen - ours
        for cause, count in (+self.stream.undelivered).items():
            found[0][cause.name.lower()] += count
        missed = sum(bpf.recursion_misses(fd) for fd in self._tracepoint_programs())
        if missed:
            found[0][MISSED_TRACEPOINTS] = missed
        return found

    def losses_of(self, pid: int) -> dict[str, int]:
        """Those of one process by cause: little to read, where many processes have lost some."""
        return {cause.name.lower(): count for cause, count in self._lost(pid).items()}

    def _lost(self, pid: int) -> Counter[Loss]:
        get = self.programs.maps["losses"].get
        found = {cause: get(bytes(LossKey(pid, cause))) for cause in Loss}
        return Counter({cause: struct.unpack("Q", n)[0] for cause, n in found.items() if n})

    def _tracepoint_programs(self) -> list[int]:
        return [self.programs.programs[name] for name in TRACEPOINTS]

    def forget_losses(self, pid: int) -> None:
        """The process has ended: another one may come to its pid."""
        self._forgotten_control += self._taken_losses(pid)[Loss.CONTROL_RING_FULL]

    def disown_losses(self, pid: int) -> None:
        """The pid has no process: from now on it is not known whose they are."""
        self._nobodys += self._taken_losses(pid)

    def _taken_losses(self, pid: int) -> Counter[Loss]:
        taken = self._lost(pid)
        for cause in taken:
            self.programs.maps["losses"].delete(bytes(LossKey(pid, cause)))
        return taken

    def calls_in_progress(self) -> Iterator[tuple[int, int, int]]:
        """(pid, abi, number) of each traced call that has begun and not returned."""
        for _, value in self.programs.maps["calls"].items():
            call = Call.from_buffer_copy(value)
            if call.active and call.flags & CallFlag.TRACE and not call.waiting:
                yield call.tgid, call.abi, call.nr

    def stop(self) -> None:
        """Detaches the tracepoints: nothing new arrives, what has is still to be drained."""
        for fd in self._tracepoints:
            os.close(fd)
        self._tracepoints.clear()

    def close(self) -> None:
        self._opened.close()
