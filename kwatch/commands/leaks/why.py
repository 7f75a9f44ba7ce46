# SPDX-License-Identifier: Apache-2.0
"""Finds out what holds a block of a process."""

from __future__ import annotations

from contextlib import closing
from functools import partial

import numpy as np

from kwatch.commands.leaks.allocators import unlisted_blocks
from kwatch.commands.leaks.search import reading
from kwatch.errors import KwatchError
from kwatch.model.holders import HolderPath, PathStep
from kwatch.model.process import ProcessFacts
from kwatch.model.reach import Reach
from kwatch.reach.block_table import Table
from kwatch.reach.holders import WordRoot, why
from kwatch.reach.memory import TargetMemory
from kwatch.reach.root_names import root_name
from kwatch.reach.settle import Settled
from kwatch.reach.stack_frames import function_at
from kwatch.reach.thread_locals import ThreadLocals
from kwatch.symbols.variables import Variables
from kwatch.targets.processes import utc_now


def holder_path(facts: ProcessFacts, found: Settled, address: int) -> HolderPath:
    """The path to the block that contains `address`.

    Raises KwatchError if the process has ended, or if the address may be in a block of an allocator
    whose blocks cannot be listed.
    """
    name = class_name(found.table, address)
    if not name and (gap := unlisted_blocks(facts.pid, found.reach)):
        raise KwatchError(
            f"{facts.comm}[{facts.pid}]: {address:#x} is in no block that kwatch can list", gap
        )
    with (
        reading(facts),
        closing(TargetMemory(facts.pid)) as memory,
        closing(Variables(facts.pid)) as variables,
    ):
        path = why(found.last.scan, memory, address) if name else None
        if path is None:
            return HolderPath(utc_now(), facts, address, name)
        thread_at, frames = ThreadLocals(facts.pid).thread_at, partial(function_at, memory)
        root = root_name(path.root, found.last.threads, variables, thread_at, frames)
    return HolderPath(
        time=utc_now(),
        process=facts,
        address=address,
        class_name=name,
        root=root,
        root_address=path.root.address if isinstance(path.root, WordRoot) else None,
        path=tuple(PathStep(*step) for step in path.steps),
    )


def class_name(table: Table, address: int) -> str:
    """The class of the block that contains an address; empty if none does."""
    at = int(table["address"].searchsorted(np.uint64(address), "right")) - 1
    if at < 0 or address >= int(table["address"][at]) + max(int(table["size"][at]), 1):
        return ""
    return Reach(int(table["reach"][at])).name.lower()
