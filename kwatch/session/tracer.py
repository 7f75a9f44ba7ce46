# SPDX-License-Identifier: Apache-2.0
"""The kernel side of a session: programs, rings, probes and the target processes."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing

import numpy as np
import numpy.typing as npt

from kwatch.kernel import perf
from kwatch.model.losses import LIFECYCLE_MISSED, TRACEPOINT_MISSED
from kwatch.model.options import TraceOptions
from kwatch.probes.attach import Attacher
from kwatch.procfs.served_files import SERVED
from kwatch.programs import tracepoints
from kwatch.programs.loader import Programs
from kwatch.programs.sources import TRACEPOINTS
from kwatch.rings.stream import Stream
from kwatch.session.held_targets import HeldTargets
from kwatch.session.losses import LossCounters, LossMap
from kwatch.session.pending_calls import PendingCalls
from kwatch.session.target_map import TargetMap
from kwatch.session.thread_slots import ThreadSlots
from kwatch.syscalls.names import everything
from kwatch.syscalls.select import numbers
from kwatch.targets import globs
from kwatch.wire.events import Abi
from kwatch.wire.maps import (
    CALL_NUMBERS,
    CALL_ROLE_SHIFT,
    CallFlag,
    MemoryRole,
    SpecialRole,
    TargetFlag,
)

_MEMORY_ROLES = {
    "mmap": MemoryRole.MMAP,
    "mmap2": MemoryRole.MMAP,
    "munmap": MemoryRole.MUNMAP,
    "mremap": MemoryRole.MREMAP,
    "brk": MemoryRole.BRK,
    "prctl": MemoryRole.PRCTL,
}
_NO_RETURN = frozenset(["exit", "exit_group"])
#: Needed to follow interrupted calls and the calls inside others, whatever is traced.
_ALWAYS_SPECIAL = {
    SpecialRole.SIGRETURN: ["rt_sigreturn", "sigreturn"],
    SpecialRole.RESTART: ["restart_syscall"],
    SpecialRole.SOCKETCALL: ["socketcall"],
    SpecialRole.IPC: ["ipc"],
}
_KILL = """
    kill pidfd_send_signal rt_sigqueueinfo rt_tgsigqueueinfo tgkill tkill
""".split()
#: Those that strace marks NF (src/linux/*/syscallent.h). Only 32-bit results can look negative.
_NEVER_FAILS = """
    getegid getegid32 geteuid geteuid32 getgid getgid32 getpgrp getpid getppid gettid getuid
    getuid32 personality setfsgid setfsgid32 setfsuid setfsuid32 umask
""".split()
#: Of each thread that makes them: the C library has all threads do so.
_SETS_USER = frozenset("setuid setuid32 setreuid setreuid32 setresuid setresuid32".split())
_OF_32_BITS = (Abi.I386, Abi.ARM)


def call_flags(options: TraceOptions, everything: frozenset[str]) -> npt.NDArray[np.uint8]:
    """What the BPF programs do with each system call: the values of the map `call_flags`."""
    wanted = everything if options.trace is None else options.trace
    traced = wanted if options.syscalls else frozenset()
    flags = np.zeros((len(Abi), CALL_NUMBERS), np.uint8)
    for abi in Abi:
        flags[abi, list(numbers(traced, abi))] |= int(CallFlag.TRACE)
        flags[abi, list(numbers(_NO_RETURN, abi))] |= int(CallFlag.NO_RETURN)
        for special, names in _special_roles(traced, abi, options.record):
            bits = int(CallFlag.SPECIAL | special << CALL_ROLE_SHIFT)
            flags[abi, list(numbers(names, abi))] |= bits
        for name, role in _memory_roles(options):
            if abi is Abi.I386 and name == "mmap":
                role = MemoryRole.OLD_MMAP
            called = list(numbers(frozenset([name]), abi))
            flags[abi, called] |= int(CallFlag.MEMORY | role << CALL_ROLE_SHIFT)
    return flags.reshape(-1)


def _special_roles(
    traced: frozenset[str], abi: Abi, record: bool
) -> Iterator[tuple[SpecialRole, frozenset[str]]]:
    if not traced:
        return
    for role, names in _ALWAYS_SPECIAL.items():
        yield role, frozenset(names)
    if record:
        yield SpecialRole.SETS_USER, _SETS_USER
    yield SpecialRole.KILL, traced & frozenset(_KILL)
    if abi in _OF_32_BITS:
        yield SpecialRole.NEVER_FAILS, traced & frozenset(_NEVER_FAILS)


def _memory_roles(options: TraceOptions) -> Iterator[tuple[str, MemoryRole]]:
    """The calls that change the memory, if anything needs them.

    Stacks need neither `brk` nor `prctl`.
    """
    for name, role in _MEMORY_ROLES.items() if options.mappings else ():
        if options.heap or role not in (MemoryRole.BRK, MemoryRole.PRCTL):
            yield name, role


class Tracer:
    """Owns the loaded programs. The constructor attaches everything except single processes."""

    def __init__(self, options: TraceOptions, programs: Programs) -> None:
        """Raises KwatchError."""
        self.programs = programs
        self._tracepoints: list[int] = []
        # The ends of threads first: a slot must not outlive its thread.
        in_order = sorted(TRACEPOINTS, key=lambda name: name != "process_exit")
        self._attached = [name for name in in_order if name in programs.programs]
        with ExitStack() as stack:
            stack.callback(programs.close)
            self.slots = stack.enter_context(closing(ThreadSlots(programs.maps)))
            self.targets = TargetMap(programs.maps["targets"], self.slots.renew)
            own = self.targets
            self.held = HeldTargets(programs.maps["held"], own.add_own, own.remove_own)
            stack.callback(self.held.close)
            if options.heap and not programs.attach_methods.uprobe_links:
                perf.uprobe_type()  # fail now, not at each probe
            self._configure(options)
            SERVED.exclude(self.targets.add_own, self.targets.remove_own)
            stack.callback(SERVED.close)
            self.stream = stack.enter_context(closing(Stream(programs, options)))
            # Without these, a lost mapping record costs only the path of an executable.
            has_mappings = options.mappings or bool(options.comms)
            maps = programs.maps
            lost = stack.enter_context(closing(LossMap(maps["losses"], maps["any_losses"])))
            self.losses = LossCounters(
                lost,
                self.stream,
                self._misses(),
                has_mappings,
            )
            self.attacher = stack.enter_context(closing(Attacher(programs)))
            stack.callback(self.stop)
            for name in self._attached:
                program, through_perf = (
                    programs.programs[name],
                    programs.attach_methods.perf_tracepoints,
                )
                attached = tracepoints.attach(TRACEPOINTS[name], program, through_perf)
                self._tracepoints.append(attached)
            self._opened = stack.pop_all()

    def _configure(self, options: TraceOptions) -> None:
        maps = self.programs.maps
        self.targets.add(os.getpid(), TargetFlag.OWN)  # no INHERIT: a launched command is a child
        flags = call_flags(options, everything()).tobytes()
        maps["call_flags"].set_many(0, flags)
        self.calls = PendingCalls(self.slots, maps["interrupted_calls"], flags, options.call_stacks)
        if options.record:
            from kwatch.session.capture_maps import fill_plan

            fill_plan(maps, options.content)
        for index, pattern in enumerate(filter(None, map(globs.automaton, options.comms))):
            maps["patterns"].set(struct.pack("I", index), pattern)

    def _misses(self) -> dict[str, list[int]]:
        """The attached programs by the cause that counts what they miss."""
        found: dict[str, list[int]] = {TRACEPOINT_MISSED: [], LIFECYCLE_MISSED: []}
        for name in self._attached:
            cause = LIFECYCLE_MISSED if name.startswith("process_") else TRACEPOINT_MISSED
            found[cause].append(self.programs.programs[name])
        return found

    def stop(self) -> None:
        """Detaches the tracepoints: no new events arrive; the rings can still be drained."""
        for fd in reversed(self._tracepoints):
            os.close(fd)
        self._tracepoints.clear()

    def close(self) -> None:
        self._opened.close()
