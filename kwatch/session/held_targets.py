# SPDX-License-Identifier: Apache-2.0
"""Targets whose memory is held: they can be scanned once more after their end."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from kwatch.kernel import bpf
from kwatch.kernel.registers import registers
from kwatch.probes.coverage import LAUNCH_IT
from kwatch.reach.held import HeldMemory
from kwatch.reach.holder import Holder, NotHeld, Vanished
from kwatch.reach.thread_state import ThreadState, state_of
from kwatch.units import format_size
from kwatch.wire import events
from kwatch.wire.maps import MAX_HELD, MAX_LAST_REGISTERS

_FORK_UNNOTICED = "it ended before kwatch noticed its fork"
_EXEC_UNNOTICED = "it ended before kwatch noticed its exec"


class Left(NamedTuple):
    """What is left of a process that has ended.

    `memory`: the caller scans and releases it. If it is None, `why` says why it cannot be scanned,
    and `cure` what to do, if that is known.
    `threads`: those that ended with the process. If there were too many, `has_more_threads`.
    """

    memory: HeldMemory | None
    threads: list[ThreadState]
    why: str = ""

    @property
    def cure(self) -> str:
        return LAUNCH_IT if self.why == _EXEC_UNNOTICED else ""

    @property
    def has_more_threads(self) -> bool:
        return len(self.threads) >= MAX_LAST_REGISTERS


@dataclass(slots=True)
class _Target:
    """`why`: why nothing is held. `since_ns`: when that was last tried, on the events' clock."""

    memory: HeldMemory | None = None
    why: str = ""
    since_ns: int = 0
    threads: list[ThreadState] = field(default_factory=list)


class HeldTargets:
    """`held`: the map of the pids for which the BPF programs report last registers.

    `on_start`, `on_end`: see Holder. Traced children of the targets become targets.
    """

    def __init__(
        self, held: bpf.Map, on_start: Callable[[int], None], on_end: Callable[[int], None]
    ) -> None:
        self._map = held
        self._holder = Holder(on_start, on_end)
        self._targets: dict[int, _Target] = {}

    def prepare(self) -> None:
        """Starts the holder, so that `take` does not wait for that. Raises NotHeld."""
        self._holder.start()

    def take(self, pid: int) -> None:
        """Holds the memory of the program that the process runs now.

        If that fails, `leave` tells why. The same is then tried after each exec of the process.
        """
        self._take(pid, _EXEC_UNNOTICED)

    def _take(self, pid: int, why_vanished: str) -> None:
        self.forget(pid)
        target = self._targets[pid] = _Target()
        self._hold(pid, target, why_vanished)

    def expect(self, pid: int) -> None:
        """Makes a process a target that is held after its next exec."""
        self._targets[pid] = _Target(since_ns=time.monotonic_ns())

    def forked(self, parent: int, child: int, time_ns: int, shares: bool) -> None:
        """A target may have forked. A child that shares its memory is held after its exec."""
        if parent not in self._targets:
            return
        known = self._targets.get(child)
        if known is not None and known.since_ns > time_ns:
            return
        if shares:
            self._targets[child] = _Target(since_ns=time_ns + 1)
        else:
            self._take(child, _FORK_UNNOTICED)

    def execed(self, pid: int, time_ns: int) -> None:
        """A process may have made an exec: if it is a target, the new program is held.

        What was held earlier is let go at once. A later hold is of this program or a later one.
        """
        target = self._targets.get(pid)
        if target is not None and target.since_ns <= time_ns:
            self._release(target)
            self._hold(pid, target, _EXEC_UNNOTICED)

    def forget_threads(self, pid: int) -> None:
        """Drops the threads that an exec has ended."""
        target = self._targets.get(pid)
        if target is not None:
            target.threads.clear()

    def renew(self) -> None:
        """Call it now and then: holds again what a holder held that has ended."""
        if not self._targets or self._holder.is_alive:
            return
        for target in self._targets.values():
            try:
                if target.memory is not None:
                    target.memory.renew()
            except NotHeld as error:
                target.why = str(error)
                self._release(target)

    def note(self, data: bytes) -> None:
        """Notes a record of last registers."""
        record = np.frombuffer(data, events.LAST_REGISTERS, 1)[0]
        target = self._targets.get(int(record["tgid"]))
        if target is not None:
            target.threads.append(thread_state(data))

    def leave(self, pid: int) -> Left | None:
        """Call it when the exit of a process is applied. None if it is no target."""
        target = self._targets.pop(pid, None)
        if target is None:
            return None
        self._unmap(pid)
        memory, why = target.memory, target.why
        if memory is None:
            return Left(None, target.threads, why or _EXEC_UNNOTICED)
        try:
            missing = memory.missing_room()
        except OSError:  # its holder has ended
            missing = 0
        if missing:
            why = f"its memory was freed at once, because {format_size(missing)} more must be free"
        elif not memory.is_held:  # it is too late to hold it again
            why = "its memory was freed early, because kwatch was stopped or frozen"
        if why:
            memory.release()
            return Left(None, target.threads, why)
        return Left(memory, target.threads)

    def forget(self, pid: int) -> None:
        """The process is no target any more; what is held of it is let go."""
        target = self._targets.pop(pid, None)
        if target is not None:
            self._release(target)
            self._unmap(pid)

    def close(self) -> None:
        for pid in list(self._targets):
            self.forget(pid)
        self._holder.close()

    def _hold(self, pid: int, target: _Target, why_vanished: str) -> None:
        """`why_vanished`: why nothing is held if the process has ended."""
        target.since_ns, target.why = time.monotonic_ns(), ""
        try:
            if sum(each.memory is not None for each in self._targets.values()) >= MAX_HELD:
                raise NotHeld(f"the memory of {MAX_HELD} processes is held already")
            target.memory = HeldMemory(pid, self._holder)
            self._map.set(struct.pack("I", pid), bytes(4))
        except Vanished:
            target.why = why_vanished
        except NotHeld as error:
            target.why = str(error)

    def _release(self, target: _Target) -> None:
        if target.memory is not None:
            target.memory.release()
            target.memory = None

    def _unmap(self, pid: int) -> None:
        with suppress(OSError):
            self._map.delete(struct.pack("I", pid))


def thread_state(data: bytes) -> ThreadState:
    """The thread that a record of last registers describes."""
    record = np.frombuffer(data, events.LAST_REGISTERS, 1)[0]
    count = len(registers().names)
    return state_of(int(record["tid"]), np.array(record["registers"][:count], np.uint64))
