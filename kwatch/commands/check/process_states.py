# SPDX-License-Identifier: Apache-2.0
"""What was seen of each checked process, and when something was not."""

from __future__ import annotations

from kwatch.memory_errors.judge import ProcessState
from kwatch.memory_errors.probed_files import AllocatorFile, AllocatorFiles
from kwatch.probes.coverage import Coverage, ProbedFile
from kwatch.processes.process import Process
from kwatch.session.loss_periods import LossPeriods
from kwatch.session.losses import LossAccount


class ProcessStates:
    """`all_files`: the probed files of all processes, so far."""

    def __init__(self, losses: LossAccount, tells_functions: bool) -> None:
        self._losses = losses
        self._tells_functions = tells_functions
        self._known: dict[int, LossPeriods] = {}  # by the identity of the process
        self.all_files = AllocatorFiles()

    def of(self, process: Process) -> ProcessState:
        """Call it when the losses have been read, after the events to be judged were delivered."""
        files = []
        for probed in process.coverage.files():
            files.append(_file(probed))
            self.all_files.by_number[probed.number] = files[-1]
        self.all_files.by_number.pop(0, None)
        if (checks := process.accounts.checks) is not None:
            checks.mixed = frozenset(
                number for number, file in self.all_files.by_number.items() if file.is_mixed
            )
        losses = self._known.setdefault(id(process), LossPeriods(self._losses))
        losses.read(process.pid)
        gap = _has_gap(process.coverage) or losses.goes_on
        memory = process.memory
        since_ns = max((file.since_ns for file in files), default=0)
        return ProcessState(
            files,
            gap,
            losses.periods,
            self._tells_functions,
            lambda address: memory is not None and memory.is_in_own(address, since_ns),
        )

    def forget(self, process: Process) -> None:
        """Call it before the object of a process that has ended is let go."""
        self._known.pop(id(process), None)


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
