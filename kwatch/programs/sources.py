# SPDX-License-Identifier: Apache-2.0
"""The kinds of events. Loader, tracer, stream, session, docs/probes.md and doctor read this table.

It does not import numpy, which is loaded while the programs compile: dtypes and causes are names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kwatch.programs.source import ProgramConfig


@dataclass(frozen=True, slots=True)
class Tracepoint:
    """A tracepoint as tracefs names it, and what its program records, for docs/probes.md.

    `older`: its name on older kernels. `through_perf`: its program reads perf's record.
    """

    name: str
    meaning: str
    older: str = ""
    through_perf: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class EventSource:
    """One row.

    `macro`: defined for the BPF sources if the row is wanted, which the ProgramConfig attribute
    with the row's name decides; a row without a macro is always wanted. `tracepoints` and `uprobes`
    are attached; a `tail_calls` program fills the only slot of its map. Those of `entry_calls` are
    called by programs at the entries of allocator functions, and have their type. `events` are
    attached to perf events, and call the `tail_calls` of their row.

    `ring`: the map of per-CPU rings that carry the events; without one, they use the control ring
    or the stack ring. `positions`: the map of their positions, if they are mapped rings. `event`:
    the dtype of the events in kwatch.wire.events. `loss`: the
    kwatch.wire.events.Loss of a full ring. `ordered`: events are applied between the control
    records, in order of time; other events are applied after all records of a batch. Accounts
    (kwatch.processes.accounts) refer to their source by name.
    """

    name: str
    macro: str = ""
    tracepoints: Mapping[str, Tracepoint] = field(default_factory=dict)
    uprobes: tuple[str, ...] = ()
    tail_calls: Mapping[str, str] = field(default_factory=dict)
    entry_calls: Mapping[str, str] = field(default_factory=dict)
    through_uprobes: bool = False
    events: tuple[str, ...] = ()
    ring: str = ""
    positions: str = ""
    event: str = ""
    loss: str = ""
    ordered: bool = False

    def is_wanted(self, config: ProgramConfig) -> bool:
        return not self.macro or bool(getattr(config, self.name))


SYSCALLS, CALL_SUMS, HEAP, WATCH = "syscalls", "call_sums", "heap", "watch"

EVENT_SOURCES = (
    EventSource(
        SYSCALLS,
        tracepoints={
            # The subsystem `syscalls` has a tracepoint for each system call instead.
            "syscall_enter": Tracepoint(
                "raw_syscalls/sys_enter",
                "number, ABI and time of a system call; arguments of mmap and similar calls",
            ),
            "syscall_exit": Tracepoint(
                "raw_syscalls/sys_exit", "result and duration of a system call"
            ),
        },
        ring="syscall_rings",
        positions="syscall_positions",
        event="SYSCALL",
        loss="SYSCALL_RING_FULL",
    ),
    # Not a ring: see kwatch/rings/call_sums.py.
    EventSource(CALL_SUMS, macro="SUMMED_CALLS"),
    EventSource(
        "record",
        macro="RECORD",
        tracepoints={
            "call_signal": Tracepoint(
                "signal/signal_deliver", "a signal that a thread gets, for `kwatch trace`"
            ),
            "cgroup_moved": Tracepoint(
                "cgroup/cgroup_attach_task", "that some process is in another control group now"
            ),
        },
        tail_calls={"capture_call": "capture_programs", "capture_nested": "nested_programs"},
    ),
    EventSource(
        "io_uring",
        macro="IO_URING",
        tracepoints={
            "io_submitted": Tracepoint(
                "io_uring/io_uring_submit_req",
                "a request of io_uring, for `kwatch trace` and `record`",
                older="io_uring/io_uring_submit_sqe",
                through_perf=True,
            ),
            "io_completed": Tracepoint(
                "io_uring/io_uring_complete", "its completion", through_perf=True
            ),
        },
    ),
    EventSource("call_stacks", macro="CALL_STACKS"),
    # Also for the stacks of mappings, which are listed with those of the heap.
    EventSource("stacks", macro="STACKS", tail_calls={"unwind_call": "unwind_call_programs"}),
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
        positions="heap_positions",
        event="HEAP",
        loss="HEAP_RING_FULL",
        ordered=True,
    ),
    EventSource(
        "heap_stacks",
        macro="HEAP_STACKS",
        tail_calls={"unwind_allocation": "unwind_programs"},
        entry_calls={
            "heap_release": "release_programs",
            "unwind_release": "unwind_release_programs",
        },
        through_uprobes=True,
    ),
    EventSource("checks", macro="CHECKS"),
    EventSource(
        "free_stacks",
        macro="FREE_STACKS",
        tail_calls={"heap_realloc_release": "realloc_programs"},
        through_uprobes=True,
    ),
    EventSource(
        WATCH,
        macro="WATCH",
        events=("watch_hit",),
        tail_calls={"unwind_hit": "unwind_hit_programs"},
        ring="hit_rings",
        positions="hit_positions",
        event="HIT",
        loss="HIT_RING_FULL",
        ordered=True,
    ),
)

#: The program that the reader runs to get young blocks: see bpf/young_blocks.h.
TAKE_YOUNG = "take_young"

#: The tracepoint of each program.
TRACEPOINTS = {
    program: tracepoint
    for source in EVENT_SOURCES
    for program, tracepoint in source.tracepoints.items()
}

#: Programs that are tail-called, also by themselves, and the map whose only slot they fill.
TAIL_CALLED = {
    program: slot
    for source in EVENT_SOURCES
    for program, slot in {**source.tail_calls, **source.entry_calls}.items()
}


def wanted_sources(config: ProgramConfig) -> list[EventSource]:
    return [source for source in EVENT_SOURCES if source.is_wanted(config)]
