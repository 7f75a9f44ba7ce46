# SPDX-License-Identifier: Apache-2.0
"""What was seen of each checked process, and when something was not."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from kwatch.memory_errors.judge import Interval, ProcessState
from kwatch.memory_errors.probed_files import AllocatorFile, AllocatorFiles
from kwatch.model.losses import name_of
from kwatch.probes.coverage import Coverage, ProbedFile
from kwatch.processes.process import Process
from kwatch.session.losses import LossAccount
from kwatch.wire.events import Loss

#: Counted once, and goes on: a process that shares the memory uses the heap unseen.
_GOES_ON = name_of(Loss.SHARED_HEAP_UNSEEN)
_ABANDONED = name_of(Loss.HEAP_CALL_ABANDONED)
#: Twice the time (STALE_NS in bpf/pending_calls.h) after which what a call has hidden is counted.
LATE_NS = 2_000_000_000


@dataclass(slots=True)
class _Losses:
    """`read_ns`: when they were last read."""

    events: int = 0
    abandoned: int = 0
    read_ns: int = 0
    periods: list[Interval] = field(default_factory=list)


class ProcessStates:
    """`all_files`: the probed files of all processes, so far."""

    def __init__(self, losses: LossAccount, tells_functions: bool) -> None:
        self._losses = losses
        self._tells_functions = tells_functions
        self._known: dict[int, _Losses] = {}  # by the identity of the process
        self.all_files = AllocatorFiles()

    def of(self, process: Process) -> ProcessState:
        """Call it when the events to be judged have been delivered and the losses were read then.

        Of later losses, only those matter that are counted late: see `LATE_NS`.
        """
        files = []
        for probed in process.coverage.files():
            files.append(_file(probed))
            self.all_files.by_number[probed.number] = files[-1]
        self.all_files.by_number.pop(0, None)
        if (checks := process.accounts.checks) is not None:
            checks.mixed = frozenset(
                number for number, file in self.all_files.by_number.items() if file.is_mixed
            )
        periods = self._periods(process)
        goes_on = _GOES_ON in self._losses.of_heap(process.pid).by_cause
        gap = _has_gap(process.coverage) or goes_on
        memory = process.memory
        since_ns = max((file.since_ns for file in files), default=0)
        return ProcessState(
            files,
            gap,
            periods,
            self._tells_functions,
            lambda address: memory is not None and memory.is_in_own(address, since_ns),
        )

    def forget(self, process: Process) -> None:
        """Call it before the object of a process that has ended is let go."""
        self._known.pop(id(process), None)

    def _periods(self, process: Process) -> list[Interval]:
        known = self._known.setdefault(id(process), _Losses())
        now = time.monotonic_ns()
        lost = self._losses.of_heap(process.pid)
        abandoned = lost.by_cause.get(_ABANDONED, 0)
        if lost.events > known.events:
            late_ns = LATE_NS if abandoned > known.abandoned else 0
            known.periods.append((known.read_ns - late_ns, now))
        known.events, known.abandoned, known.read_ns = lost.events, abandoned, now
        return known.periods


def _file(probed: ProbedFile) -> AllocatorFile:
    found = probed.allocator
    return AllocatorFile(
        found.path,
        found.is_mixed,
        only_operators=all(probe.function.operator for probe in found.probes),
        since_ns=probed.since_ns,
        is_standard=not found.families and all(probe.is_standard for probe in found.probes),
    )


def _has_gap(coverage: Coverage) -> bool:
    """Whether the heap does things that the probes do not see."""
    return bool(coverage.refused or coverage.copied or coverage.dispatches or coverage.unsafe)
