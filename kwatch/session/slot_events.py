# SPDX-License-Identifier: Apache-2.0
"""Events of unordered sources: assigned to processes in bulk and added to accounts by slot."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.distinct import distinct_values
from kwatch.aggregate.syscalls import CHUNK
from kwatch.processes.process import Process
from kwatch.processes.process_table import ProcessTable
from kwatch.wire.events import Batch, count_events

Slots = npt.NDArray[np.intp]


class SlotAccount(Protocol):
    """One account for all processes, indexed by their slots."""

    def add(self, batch: Batch, slots: Slots) -> None:
        """Adds events of the account's source; `slots` has the slot of each event's process."""

    def drop(self, slot: int) -> None:
        """Removes a process; its slot may be reused."""


class SlotEvents:
    """The events of one source.

    A batch is applied after its forks, which make processes known, and before its exits.
    `own`: the pids of kwatch's helper processes. `discover` is called with each unknown pid.
    """

    def __init__(
        self,
        accounts: Sequence[SlotAccount],
        process_table: ProcessTable,
        own: Set[int],
        discover: Callable[[int], Process | None],
    ) -> None:
        self._accounts = accounts
        self._process_table = process_table
        self._own = own
        self._discover = discover
        self._batches: list[Batch] = []
        self._unknown: list[Batch] = []
        self._late: list[Batch] = []
        self._unknown_events = 0

    @property
    def unknown_events(self) -> int:
        """How many events are in no report because their process is unknown."""
        return self._unknown_events + sum(
            count_foreign(batch, self._own) for batch in self._unknown
        )

    def begin(self, batches: list[Batch]) -> None:
        """Sets the events of a batch whose control records will be applied next."""
        self._batches = batches
        self._late, self._unknown = self._unknown, []

    def apply_until(self, time_ns: int) -> None:
        """Applies the events from before a pid was reused."""
        batches, self._batches = self._batches, []
        for batch in batches:
            count = int(np.searchsorted(batch["time_ns"], np.uint64(time_ns)))
            self._add(batch[:count])
            self._batches.append(batch[count:])

    def finish(self) -> None:
        """Applies the rest, after all control records."""
        self._add_late()
        batches, self._batches = self._batches, []
        for batch in batches:
            self._add(batch)

    def drop(self, slot: int) -> None:
        for account in self._accounts:
            account.drop(slot)

    def _add(self, batch: Batch) -> None:
        for start in range(0, len(batch), CHUNK):
            self._add_chunk(batch[start : start + CHUNK])

    def _add_chunk(self, batch: Batch) -> None:
        slots = self._process_table.slots(batch["tgid"])
        if not slots.all():
            for pid in distinct_values(batch["tgid"][slots == 0]):
                self._discover(pid)
            slots = self._process_table.slots(batch["tgid"])
            self._unknown.append(batch[slots == 0])
            batch, slots = batch[slots > 0], slots[slots > 0]
        self._account(batch, slots)

    def _add_late(self) -> None:
        """Adds earlier events of unknown processes that exit records have made known since.

        The other late events come from the last threads of processes that have been reported.
        """
        for batch in self._late:
            slots = self._process_table.slots(batch["tgid"])
            self._account(batch[slots > 0], slots[slots > 0])
            self._unknown_events += count_foreign(batch[slots == 0], self._own)
        self._late = []

    def _account(self, batch: Batch, slots: Slots) -> None:
        for account in self._accounts:
            account.add(batch, slots)


def count_foreign(batch: Batch, own: Set[int]) -> int:
    """How many of the events do not come from kwatch's own processes."""
    return count_events(batch[~np.isin(batch["tgid"], list(own))])
