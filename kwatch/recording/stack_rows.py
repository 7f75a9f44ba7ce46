# SPDX-License-Identifier: Apache-2.0
"""Which rows of the table `stacks` belong to a segment: those that its other rows refer to.

A segment must not need an earlier one, which may have been removed.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

_MAX_STACKS = 65_536  # of all processes; the oldest are forgotten first

_Key = tuple[int, int]


class StackRows:
    """Keeps the rows of stacks, and notes which ones are in use."""

    def __init__(self) -> None:
        self._rows: dict[_Key, dict[str, Any]] = {}
        self._pid_of: dict[int, int] = {}  # a child's calls may have the stacks of its parent
        self._in_use: set[_Key] = set()

    def add(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._rows[row["pid"], row["stack"]] = row
            self._pid_of[row["stack"]] = row["pid"]
        for pid, stack in list(self._rows)[: max(len(self._rows) - _MAX_STACKS, 0)]:
            del self._rows[pid, stack]
            if self._pid_of.get(stack) == pid:
                del self._pid_of[stack]

    def note(self, batch: pa.RecordBatch) -> None:
        """Notes the stacks of rows of another table."""
        if batch["stack"].null_count == len(batch):
            return
        table = pa.Table.from_batches([batch.select(["pid", "stack"])])
        for row in table.group_by(["pid", "stack"]).aggregate([]).to_pylist():
            if row["stack"] is not None:
                self._in_use.add((row["pid"], row["stack"]))

    def take(self) -> list[dict[str, Any]]:
        """The rows of the stacks in use. Those without a name yet stay in use for the next time."""
        found, unknown = [], set()
        for pid, stack in self._in_use:
            parent = self._pid_of.get(stack, 0)
            row = self._rows.get((pid, stack)) or self._rows.get((parent, stack))
            if row is None:
                unknown.add((pid, stack))
            else:
                found.append({**row, "pid": pid})
        self._in_use = unknown
        return found
