# SPDX-License-Identifier: Apache-2.0
"""Sentences about what a scan of the heap has found."""

from __future__ import annotations

from collections.abc import Iterator

from kwatch.model.reach import Amount, HeapReach
from kwatch.units import counted, format_size

_NOTHING = Amount()


def amount_text(amount: Amount) -> str:
    return f"{counted(amount.blocks, 'block')} ({format_size(amount.bytes)})"


def lost_text(amount: Amount, which: str = "", held: Amount = _NOTHING) -> str:
    """That these blocks are lost. `which`: where they are from. `held`: what only they lead to."""
    is_one = amount.blocks == 1
    verb, target = ("is", "it") if is_one else ("are", "them")
    if held.blocks:
        more = f"{held.blocks:,} more ({format_size(held.bytes)})"
        which += f", which {'holds' if is_one else 'hold'} {more},"
    return f"{amount_text(amount)}{which} {verb} lost: no pointer leads to {target}"


def unproven_text(reach: HeapReach) -> str:
    """What may still hold blocks that seem lost, to follow `lost_text`; empty if nothing may."""
    may_hold = []
    if reach.blind_threads:
        threads = counted(reach.blind_threads, "thread")
        may_hold.append(f"the registers of {threads} that kwatch could not read")
    if reach.unreadable:
        may_hold.append(f"{format_size(reach.unreadable)} of memory that could not be read")
    text = f", unless {' or '.join(may_hold)} hold one" if may_hold else ""
    return text if reach.is_settled else f"{text}; {_unsettled(reach)}"


def _unsettled(reach: HeapReach) -> str:
    return f"which blocks are lost kept changing over {reach.scans} scans"


def held_text(reach: HeapReach | None, among: str = "", kind: str = "block") -> str:
    """That nothing is lost. `kind`: what these blocks are called."""
    total = 0 if reach is None else reach.reachable.blocks + reach.possible.blocks
    if reach is None or not total:
        return f"no {kind}{among} is outstanding"
    held = (
        f"all {total:,} {kind}s{among} are held" if total > 1 else f"the one {kind}{among} is held"
    )
    if reach.possible.blocks:
        held += f", {counted(reach.possible.blocks, 'block')} by a pointer into the middle"
    return held


def gaps(reach: HeapReach) -> Iterator[str]:
    """Why a scan does not prove that nothing is lost."""
    if not reach.is_settled:
        yield _unsettled(reach)
    if reach.unreadable:
        yield f"{format_size(reach.unreadable)} of its memory could not be read"
    if reach.unwalked:
        yield f"a part of the heap could not be read: {reach.unwalked[0]}"
