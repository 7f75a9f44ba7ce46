# SPDX-License-Identifier: Apache-2.0
"""The kinds of events. Loader, tracer, stream, session, docs/probes.md and doctor read this table.

Without numpy, which is imported while the programs are compiled: dtypes and causes go by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kwatch.programs.source import ProgramConfig


@dataclass(frozen=True, slots=True)
class Tracepoint:
    """A tracepoint as tracefs names it, and what its program tells, for docs/probes.md."""

    name: str
    meaning: str


@dataclass(frozen=True, slots=True, eq=False)
class EventSource:
    """One row.

    `macro`: the BPF sources are built with it where the row is wanted; a row without one always
    is. The ProgramConfig attribute of the row's name says whether. `tracepoints` and `uprobes` are
    attached; a `tail_calls` program stands in the only slot of the map that goes with it.

    `ring`: the map of per-CPU rings that the events come by; without one they come by the control
    ring or the stack ring. `event`: their dtype in kwatch.wire.events. `loss`: the kwatch.wire.
    events.Loss of a full ring. `ordered`: events are applied between the control records, in order
    of time; others after all of a batch. Accounts (kwatch.processes.accounts) name their source.
    """

    name: str
    macro: str = ""
    tracepoints: Mapping[str, Tracepoint] = field(default_factory=dict)
    uprobes: tuple[str, ...] = ()
    tail_calls: Mapping[str, str] = field(default_factory=dict)
    through_uprobes: bool = False
    ring: str = ""
    event: str = ""
    loss: str = ""
    ordered: bool = False

    def is_wanted(self, config: ProgramConfig) -> bool:
        return not self.macro or bool(getattr(config, self.name))


SYSCALLS, HEAP = "syscalls", "heap"

EVENT_SOURCES = (
    EventSource(
        SYSCALLS,
        tracepoints={
            # Of the subsystem `raw_syscalls`: `syscalls` has those of single calls.
            "syscall_enter": Tracepoint(
                "raw_syscalls/sys_enter",
                "number, ABI and time of a system call; arguments of mmap and similar calls",
            ),
            "syscall_exit": Tracepoint(
                "raw_syscalls/sys_exit", "result and duration of a system call"
            ),
        },
        ring="syscall_rings",
        event="SYSCALL",
        loss="SYSCALL_RING_FULL",
    ),
    EventSource(
        "call_stacks", macro="CALL_STACKS", tail_calls={"unwind_call": "unwind_call_programs"}
    ),
    EventSource(
        "lifecycle",
        tracepoints={
            "process_fork": Tracepoint(
                "task/task_newtask", "a new child of a target, with `--follow` or `--comm`"
            ),
            "process_exec": Tracepoint(
                "sched/sched_process_exec",
                "the new name of a process, and whether it matches `--comm`",
            ),
            "process_exit": Tracepoint(
                "sched/sched_process_exit", "the end of a thread or a process"
            ),
        },
    ),
    EventSource(
        HEAP,
        macro="HEAP",
        uprobes=("heap_return", "heap_exit"),
        through_uprobes=True,
        ring="heap_rings",
        event="HEAP",
        loss="HEAP_RING_FULL",
        ordered=True,
    ),
    EventSource(
        "heap_stacks",
        macro="HEAP_STACKS",
        tail_calls={"unwind_allocation": "unwind_programs"},
        through_uprobes=True,
    ),
)

#: By program.
TRACEPOINTS = {
    program: tracepoint.name
    for source in EVENT_SOURCES
    for program, tracepoint in source.tracepoints.items()
}

#: Programs that others and they themselves tail-call, with the map whose only slot they fill.
TAIL_CALLED = {
    program: slot for source in EVENT_SOURCES for program, slot in source.tail_calls.items()
}


def wanted_sources(config: ProgramConfig) -> list[EventSource]:
    return [source for source in EVENT_SOURCES if source.is_wanted(config)]
