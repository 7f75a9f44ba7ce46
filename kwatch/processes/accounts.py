# SPDX-License-Identifier: Apache-2.0
"""The accounts of each process, and the events that feed them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, cast

from kwatch.aggregate.heap import HeapAccount
from kwatch.aggregate.memory import MemoryAccount
from kwatch.memory_errors.account import FreeChecks
from kwatch.model.options import TraceOptions
from kwatch.programs.sources import HEAP
from kwatch.wire.events import Batch, Types


class Account(Protocol):
    """What one process has done. Each account also has its own `snapshot` for reports."""

    def add(self, batch: Batch, types: Types) -> None:
        """Adds events of the account's source, in order of time; `types`: `types_of` the batch."""

    def fork(self) -> Self:
        """Returns the account of a new child."""

    def exec(self) -> None:
        """Starts again from zero: the process has a new address space."""


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One row: a process has this account if its source is traced.

    `source` is the name of an ordered row of kwatch.programs.sources and of the TraceOptions that
    ask for it; `is_wanted` may say more. Accounts of unordered sources are SlotAccounts
    (kwatch.session.slot_events).
    """

    name: str
    source: str
    make: Callable[[TraceOptions], Account]
    is_wanted: Callable[[TraceOptions], bool] = lambda options: True


_PAGE_SIZE = os.sysconf("SC_PAGESIZE")

ACCOUNTS = (
    AccountRow(
        "heap",
        HEAP,
        lambda options: HeapAccount(options.alloc_totals),
        lambda options: not options.checks,
    ),
    AccountRow("checks", HEAP, lambda options: FreeChecks(), lambda options: options.checks),
    AccountRow("memory", HEAP, lambda options: MemoryAccount(_PAGE_SIZE)),
)

_NAMES = {
    source: [row.name for row in ACCOUNTS if row.source == source]
    for source in {row.source for row in ACCOUNTS}
}


class Accounts:
    """The accounts of one process by name."""

    def __init__(self, by_name: dict[str, Account] | None = None) -> None:
        self._by_name = by_name or {}

    @classmethod
    def wanted(cls, options: TraceOptions) -> Accounts:
        """New accounts for what the options ask for."""
        traced = [row for row in ACCOUNTS if getattr(options, row.source)]
        rows = [row for row in traced if row.is_wanted(options)]
        return cls({row.name: row.make(options) for row in rows})

    @property
    def heap(self) -> HeapAccount | None:
        return cast("HeapAccount | None", self._by_name.get("heap"))

    @property
    def checks(self) -> FreeChecks | None:
        """Instead of `heap`, where releases are checked."""
        return cast("FreeChecks | None", self._by_name.get("checks"))

    @property
    def memory(self) -> MemoryAccount | None:
        return cast("MemoryAccount | None", self._by_name.get("memory"))

    def add(self, source: str, batch: Batch, types: Types) -> None:
        """Adds events of a source to the accounts that use it."""
        for name in _NAMES.get(source, ()):
            if account := self._by_name.get(name):
                account.add(batch, types)

    def fork(self) -> Accounts:
        return Accounts({name: account.fork() for name, account in self._by_name.items()})

    def exec(self) -> None:
        for account in self._by_name.values():
            account.exec()
