# SPDX-License-Identifier: Apache-2.0
"""The BPF maps that hold unwind tables and mappings, each behind the class that writes it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kwatch.kernel import bpf
from kwatch.kernel.grace_period import GracePeriods, Retired
from kwatch.tables.file_store import FileStore
from kwatch.tables.mapping_store import MappingStore
from kwatch.tables.row_store import Placed, RowStore


@dataclass(slots=True)
class TableStores:
    """`retired`: unused tables, kept until no program can be reading them."""

    rows: RowStore
    mappings: MappingStore
    files: FileStore
    stacks_sent: bpf.Map
    periods: GracePeriods
    retired: Retired[Placed]

    @classmethod
    def open(cls, maps: Mapping[str, bpf.Map]) -> TableStores:
        """Raises OSError."""
        periods = GracePeriods(maps["spaces"].unpreempted)
        return cls(
            RowStore(maps["row_shards"]),
            MappingStore(maps["spaces"], maps["code_mappings"], periods),
            FileStore(maps["file_tables"]),
            maps["stacks_sent"],
            periods,
            Retired(periods),
        )

    def forget_sent(self, stacks: Iterable[int]) -> None:
        """Makes the programs send the frames of these stacks again when they next occur."""
        for stack in stacks:
            self.stacks_sent.delete(struct.pack("Q", stack))

    def reclaim(self) -> int:
        """Frees data that no program can be reading any more; returns the number of tables."""
        self.mappings.reclaim()
        released = self.retired.released()
        for placed in released:
            self.rows.remove(placed)
        return len(released)

    def close(self) -> None:
        self.rows.close()
        self.periods.close()
