# SPDX-License-Identifier: Apache-2.0
"""The kernel side of a session: programs, rings, probes, the set of target processes."""

from __future__ import annotations

import os
import struct
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing

from kwatch.events import Abi, Loss
from kwatch.kernel import bpf, tracepoints
from kwatch.kernel.loader import Programs
from kwatch.kernel.tracepoints import TRACEPOINTS
from kwatch.maps import (
    CALL_NUMBERS,
    CALL_ROLE_SHIFT,
    Call,
    CallFlag,
    LossKey,
    MemoryRole,
    Target,
    TargetFlag,
)
from kwatch.options import WatchOptions
from kwatch.probes.attach import Attacher
from kwatch.stream import Stream
from kwatch.syscalls.names import everything
from kwatch.syscalls.select import numbers
from kwatch.targets import globs

#: Beside the causes of `kwatch.events.Loss`: a mapping or a new name went unseen.
LOST_MAPPINGS = "mapping_record_lost"
#: The kernel has skipped a program: see kwatch.kernel.bpf.recursion_misses.
MISSED_TRACEPOINTS = "tracepoint_missed"
_CONTROL_LOST = Loss.CONTROL_RING_FULL.name.lower()

_MEMORY_ROLES = {
    "mmap": MemoryRole.MMAP,
    "mmap2": MemoryRole.MMAP_PAGES,
    "munmap": MemoryRole.MUNMAP,
    "mremap": MemoryRole.MREMAP,
    "brk": MemoryRole.BRK,
}
_NO_RETURN = ("exit", "exit_group")


def call_flags(options: WatchOptions, everything: frozenset[str]) -> dict[int, int]:
    """What the BPF programs do with each call: the values of their map by its index."""
    wanted = everything if options.trace is None else options.trace
    traced = wanted if options.syscalls else frozenset()
    flags: dict[int, int] = defaultdict(int)
    for abi in Abi:
        for number in numbers(traced, abi):
            flags[abi * CALL_NUMBERS + number] |= CallFlag.TRACE
        for name in _NO_RETURN:
            for number in numbers(frozenset([name]), abi):
                flags[abi * CALL_NUMBERS + number] |= CallFlag.NO_RETURN
        for name, role in _memory_roles(options):
            if abi is Abi.I386 and role is MemoryRole.MMAP:
                role = MemoryRole.OLD_MMAP
            for number in numbers(frozenset([name]), abi):
                flags[abi * CALL_NUMBERS + number] |= CallFlag.MEMORY | role << CALL_ROLE_SHIFT
    return flags


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
        with ExitStack() as stack:
            stack.callback(programs.close)
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
        for index, flags in call_flags(options, everything()).items():
            maps["call_flags"].set(struct.pack("I", index), bytes([flags]))
        for index, pattern in enumerate(filter(None, map(globs.automaton, options.comms))):
            maps["patterns"].set(struct.pack("I", index), pattern)

    def add_target(self, pid: int, flags: int) -> int:
        """From now on the process is traced. A seed, which is returned, names its image."""
        seed = (time.monotonic_ns() << 16 ^ pid) & (1 << 64) - 1
        self.programs.maps["targets"].set(struct.pack("I", pid), bytes(Target(seed, flags)))
        return seed

    def image(self, pid: int) -> int:
        """The seed of a target; 0 if the process is none."""
        target = self.programs.maps["targets"].get(struct.pack("I", pid))
        return Target.from_buffer_copy(target).seed if target else 0

    def add_own(self, pid: int) -> None:
        """A process of kwatch's, which no name and no system-wide trace makes a target.

        Nor are its children.
        """
        self.add_target(pid, TargetFlag.OWN | TargetFlag.INHERIT)

    def forget_own(self, pid: int) -> None:
        """It is ending; its pid may come to another process."""
        self.programs.maps["targets"].delete(struct.pack("I", pid))

    def remove_target(self, pid: int, image: int) -> bool:
        """Whether it was one until now; another process that has its pid by now is left alone."""
        if not image or self.image(pid) != image:
            return False
        self.programs.maps["targets"].delete(struct.pack("I", pid))
        return True

    def is_target(self, pid: int) -> bool:
        return self.programs.maps["targets"].get(struct.pack("I", pid)) is not None

    def losses(self) -> dict[int, dict[str, int]]:
        """Events lost since the start by process and cause; process 0: not known whose."""
        found: dict[int, dict[str, int]] = defaultdict(dict)
        for key, value in self.programs.maps["losses"].items():
            lost = LossKey.from_buffer_copy(key)
            found[lost.tgid][Loss(lost.cause).name.lower()] = struct.unpack("Q", value)[0]
        unseen = self.stream.lost_control_records
        ours = sum(causes.get(_CONTROL_LOST, 0) for causes in found.values())
        ours += self._forgotten_control
        if unseen > ours:  # the rest are records of the kernel's own: mappings and names
            found[0][LOST_MAPPINGS] = unseen - ours
        missed = sum(bpf.recursion_misses(fd) for fd in self._tracepoint_programs())
        if missed:
            found[0][MISSED_TRACEPOINTS] = missed
        return found

    def _tracepoint_programs(self) -> list[int]:
        return [self.programs.programs[name] for name in TRACEPOINTS]

    def forget_losses(self, pid: int) -> None:
        """The process has ended: another one may come to its pid."""
        lost = self.programs.maps["losses"].get(bytes(LossKey(pid, Loss.CONTROL_RING_FULL)))
        self._forgotten_control += struct.unpack("Q", lost)[0] if lost else 0
        for cause in Loss:
            self.programs.maps["losses"].delete(bytes(LossKey(pid, cause)))

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
