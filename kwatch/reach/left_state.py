# SPDX-License-Identifier: Apache-2.0
"""The mappings and registers that a process has left behind, for the scanner."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import astuple
from typing import NamedTuple

import numpy as np

from kwatch.reach.regions import Region
from kwatch.reach.thread_state import ThreadState


class LeftState(NamedTuple):
    """`threads`: those that ended with the program."""

    regions: Sequence[Region]
    threads: Sequence[ThreadState]

    def to_file(self) -> int:
        """A new memory file."""
        threads = [
            [each.tid, each.registers.tolist(), each.stack_pointer, each.names, each.has_registers]
            for each in self.threads
        ]
        text = json.dumps([[astuple(region) for region in self.regions], threads])
        file = os.memfd_create("left", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(file), "wb") as stream:
            stream.write(text.encode())
        return file

    @classmethod
    def from_file(cls, file: int) -> LeftState:
        """From a memory file, which is closed."""
        with os.fdopen(file, "rb") as stream:
            stream.seek(0)
            regions, threads = json.load(stream)
        return cls(
            [Region(*each) for each in regions],
            [
                ThreadState(tid, np.array(values, np.uint64), pointer, tuple(names), has_registers)
                for tid, values, pointer, names, has_registers in threads
            ],
        )
