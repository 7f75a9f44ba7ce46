# SPDX-License-Identifier: Apache-2.0
"""Finds out what holds all blocks of one size or of one C++ class, summed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np

from kwatch.aggregate.order import U64
from kwatch.commands.leaks.allocators import unlisted_blocks
from kwatch.commands.leaks.search import reading
from kwatch.errors import KwatchError
from kwatch.model.holders import HolderReport, HolderSum
from kwatch.model.process import ProcessFacts
from kwatch.model.reach import Amount
from kwatch.reach.block_table import Table
from kwatch.reach.hints import Hints
from kwatch.reach.holder_groups import holder_sums
from kwatch.reach.holder_sums import HolderSums
from kwatch.reach.memory import TargetMemory
from kwatch.reach.settle import Settled
from kwatch.reach.thread_locals import ThreadLocals
from kwatch.symbols.variables import Variables
from kwatch.targets.processes import utc_now
from kwatch.units import format_size, parse_size

#: glibc's chunks on 64-bit machines: a header, their alignment, and the smallest one.
_HEADER, _ALIGNMENT, _MIN_CHUNK = 8, 16, 32


def holders(facts: ProcessFacts, found: Settled, of: str) -> HolderReport:
    """What holds the blocks of a size or a class. Raises KwatchError."""
    with (
        reading(facts),
        closing(TargetMemory(facts.pid)) as memory,
        closing(Variables(facts.pid)) as variables,
    ):
        hints = Hints(memory, found.last.scan.regions)
        wanted = _addresses(found.table, hints, of)
        if not len(wanted):
            raise _none(facts, of, unlisted_blocks(facts.pid, found.reach))
        thread_at = ThreadLocals(facts.pid).thread_at
        sums = holder_sums(found.last, wanted, variables, thread_at)
        held_by = (*_roots(sums), *_blocks(sums, found.table, hints))
    return HolderReport(
        time=utc_now(),
        process=facts,
        of=of,
        found=sums.found,
        held_by=tuple(sorted(held_by, key=lambda one: -one.bytes)),
        unheld=sums.unheld,
    )


def sizes_of(text: str, sizes: U64) -> U64:
    """Those of these sizes that are meant by a text: the size itself, as malloc rounds it up, or as
    `kwatch leaks` shows it. Raises UsageError if it is no size."""
    asked = parse_size(text)
    chunk = -(-(asked + _HEADER) // _ALIGNMENT) * _ALIGNMENT
    usable = max(chunk, _MIN_CHUNK) - _HEADER
    shown = _spaceless(text)
    meant = [
        size
        for size in sizes.tolist()
        if size in (asked, usable) or _spaceless(format_size(size)) == shown
    ]
    return np.array(meant, np.uint64)


def _spaceless(text: str) -> str:
    return text.replace(" ", "")


def _addresses(table: Table, hints: Hints, of: str) -> U64:
    """Of the blocks that are meant, sorted."""
    addresses: U64 = table["address"]
    if of[:1].isdigit():
        chosen = np.isin(table["size"], sizes_of(of, np.unique(table["size"])))
    else:
        numbers, types = hints.types(addresses)
        chosen = np.isin(numbers, [number for number, name in enumerate(types) if name == of])
    return addresses[chosen]


def _none(facts: ProcessFacts, of: str, unlisted: str) -> KwatchError:
    """`unlisted`: which blocks are not listed."""
    what = "has the size" if of[:1].isdigit() else "is an object of the C++ class"
    if unlisted:
        listed = f"no block of {facts.comm}[{facts.pid}] that kwatch can list"
        return KwatchError(f"{listed} {what} {of}", unlisted)
    return KwatchError(
        f"no block of {facts.comm}[{facts.pid}] {what} {of}",
        "which function allocated a block is known only of a process that kwatch traces: "
        f"kwatch --pid {facts.pid} --who FUNCTION",
    )


def _roots(sums: HolderSums) -> Iterator[HolderSum]:
    for root in sums.roots:
        yield HolderSum("root", root.name, root.blocks, root.bytes)


def _blocks(sums: HolderSums, table: Table, hints: Hints) -> Iterator[HolderSum]:
    """By their class, or by their size if they have none."""
    rows = sums.blocks
    numbers, types = hints.types(rows["address"])
    sizes = table["size"][table["address"].searchsorted(rows["address"])]
    totals: dict[str, Amount] = {}
    for number, size, (_, blocks, held) in zip(
        numbers.tolist(), sizes.tolist(), rows.tolist(), strict=True
    ):
        name = types[number] or format_size(size)
        before = totals.get(name, Amount())
        totals[name] = Amount(before.blocks + blocks, before.bytes + held)
    for name, amount in totals.items():
        yield HolderSum("block", name, amount.blocks, amount.bytes)
