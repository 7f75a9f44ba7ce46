# SPDX-License-Identifier: Apache-2.0
"""The causes of lost events. Accounts, reports, tables and docs/semantics.md read this table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kwatch.model.snapshot import Lost
from kwatch.wire.events import Loss


@dataclass(frozen=True, slots=True)
class LossCause:
    """One row. `meaning`: what was lost, in Markdown, for the documents.

    `unsure`: the loss may make the heap's numbers wrong, so the verdict is `unsure` unless the
    process is another. `buffer`: a larger --buffer helps. `exit`: an exit may have been lost.
    `cure`: another remedy.
    """

    name: str
    meaning: str
    unsure: bool = False
    buffer: bool = False
    exit: bool = False
    cure: str = ""


def name_of(loss: Loss) -> str:
    """The name of a cause that the BPF programs count."""
    return loss.name.lower()


CONTROL_RING_FULL = name_of(Loss.CONTROL_RING_FULL)
MAPPING_RECORD_LOST = "mapping_record_lost"
TRACEPOINT_MISSED = "tracepoint_missed"
LIFECYCLE_MISSED = "lifecycle_missed"
PROCESS_UNKNOWN = "process_unknown"
PROCESS_SKIPPED = "process_skipped"

_ROWS = (
    LossCause(
        name_of(Loss.SYSCALL_RING_FULL),
        "a system call",
        buffer=True,
    ),
    LossCause(
        name_of(Loss.HEAP_RING_FULL),
        "an allocation, a free, or a change of the memory",
        unsure=True,
        buffer=True,
    ),
    LossCause(
        CONTROL_RING_FULL,
        "a fork, an exec or an exit",
        unsure=True,
        exit=True,
    ),
    LossCause(
        name_of(Loss.STACK_RING_FULL),
        "the frames of a stack; the event arrived, and the frames are sent again with its "
        "next event",
    ),
    LossCause(
        name_of(Loss.STACK_MEMORY_RING_FULL),
        "a copy of a stack; the stack arrived, cut where the kernel had no table",
    ),
    LossCause(
        name_of(Loss.STACK_SCRATCH_BUSY),
        "a stack, because too many threads were preempted on one CPU while theirs were "
        "unwound; the event arrived, with its function only",
    ),
    LossCause(
        name_of(Loss.SLOTS_FULL),
        "a system call or a heap event: there are 25,000 threads or more on the machine",
        unsure=True,
    ),
    LossCause(
        name_of(Loss.TARGETS_MAP_FULL),
        "a whole process, counted each time it is seen: more than 32,768 processes; it is in no "
        "report",
    ),
    LossCause(
        MAPPING_RECORD_LOST,
        "the kernel's record of a new mapping or name of some process: an allocator may have "
        "been without probes for about a second, until kwatch has read the mappings again; then, "
        "or if the process ended before, the verdict of that process is unsure; not counted if "
        "only the path of an executable depends on it",
    ),
    LossCause(
        TRACEPOINT_MISSED,
        "a system call or a change of the memory, because the kernel skipped a program, see "
        "[kernels](kernels.md#what-differs); the process is unknown",
    ),
    LossCause(
        LIFECYCLE_MISSED,
        "a fork, an exec or an exit, for the same reason",
        unsure=True,
        exit=True,
    ),
    LossCause(
        PROCESS_UNKNOWN,
        "an event of a process that ended before kwatch could look at it and whose exit "
        "was lost, or of a thread that outlived the report of its process; it is in no "
        "report, and counts for every process",
    ),
    LossCause(
        PROCESS_SKIPPED,
        "a heap event of a short-lived process that kwatch did not look at, because more "
        "processes began and ended than it can follow (only without a target); the process has "
        "no report of its own, and its system calls count for its "
        "[name](#processes-that-have-ended)",
    ),
    LossCause(
        name_of(Loss.HEAP_CALL_ABANDONED),
        "calls below an allocator function that an exception or `longjmp()` left: until "
        "kwatch notices, after at most a second, they look like calls that the function "
        "makes; also, at the end of a thread, those below a call that it was in. On "
        "x86-64 an exception from `operator new` is noticed at the next call; the "
        "allocation of the exception itself is lost",
        unsure=True,
    ),
    LossCause(
        name_of(Loss.SHARED_HEAP_UNSEEN),
        "what a process that shares the memory of a target, such as a child of `vfork()`, did "
        "with the heap; counted once for each such process, see [processes](#processes)",
        unsure=True,
        cure="--perf-uprobes counts what processes do that share the memory of a target",
    ),
    LossCause(
        name_of(Loss.MAIN_THREAD_ENDED),
        "what a process did with the heap after the end of its main thread, counted once; only "
        "with `--perf-uprobes`, and on kernels without uprobe links",
        unsure=True,
        cure="without --perf-uprobes, Linux 6.6 and later goes on after its main thread has ended",
    ),
    LossCause(
        name_of(Loss.CALL_CONTENT),
        "what the arguments of a recorded system call point to; the call itself arrived",
        buffer=True,
    ),
    LossCause(
        name_of(Loss.THREAD_EVENT),
        "a signal, or the end of a thread, in a trace",
        buffer=True,
    ),
    LossCause(
        name_of(Loss.HIT_RING_FULL),
        "an access to watched memory",
        buffer=True,
    ),
    LossCause(
        name_of(Loss.RESULT_UNREADABLE),
        "a block from `posix_memalign` whose address could not be read",
        unsure=True,
    ),
)

#: By name, in the order of the documents.
LOSS_CAUSES = {row.name: row for row in _ROWS}


def heap_losses(by_cause: Mapping[str, int]) -> Lost:
    """Those of the losses that affect the heap's numbers."""
    causes = {cause: count for cause, count in by_cause.items() if LOSS_CAUSES[cause].unsure}
    return Lost(sum(causes.values()), causes)


def cures(lost: Lost) -> list[str]:
    """What helps against the losses."""
    found = ["a larger --buffer may help"] if buffer_helps(lost) else []
    return found + [LOSS_CAUSES[cause].cure for cause in lost.by_cause if LOSS_CAUSES[cause].cure]


def buffer_helps(lost: Lost) -> bool:
    """Whether a larger --buffer would have prevented some of the losses."""
    return any(count and LOSS_CAUSES[cause].buffer for cause, count in lost.by_cause.items())


def may_hide_exit(by_cause: Mapping[str, int]) -> bool:
    """Whether an exit may be among the lost events."""
    return any(LOSS_CAUSES[cause].exit for cause in by_cause)
