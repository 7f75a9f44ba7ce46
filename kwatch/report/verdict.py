# SPDX-License-Identifier: Apache-2.0
"""Decides whether a process has leaked, and gives the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kwatch.model.frame import Ending
from kwatch.model.losses import cures
from kwatch.model.snapshot import Lost, StackStats, Verdict
from kwatch.report.attribution import Origin, StackSymbolizer, leaking_place, origins, place
from kwatch.symbols.stack import Stack
from kwatch.units import counted, format_size


@dataclass(frozen=True, slots=True)
class VerdictInput:
    """What the verdict depends on.

    `stacks`: all that hold blocks old enough to count, most bytes first, including those that are
    not listed. `program`: the path of the executable. `killed_by`: the signal that killed the
    process, if any. `lost`: the losses that affect the heap's numbers. `doubts`: why they may not
    show everything. `has_events`: whether kwatch saw enough to judge by. `some_sizes`: blocks of
    other sizes are not traced.
    """

    stacks: tuple[tuple[StackStats, Stack], ...]
    program: str
    exited: bool
    killed_by: str = ""
    lost: Lost = field(default_factory=Lost)
    doubts: tuple[str, ...] = ()
    has_events: bool = True
    some_sizes: bool = False


def judge(verdict_input: VerdictInput, symbolizer: StackSymbolizer) -> tuple[Verdict | None, str]:
    """The verdict on what is outstanding, and the reason in one sentence.

    None if there is nothing to judge.
    """
    if verdict_input.lost.events:
        return Verdict.UNSURE, _lost(verdict_input.lost)
    program = verdict_input.program
    outstanding = origins(verdict_input.stacks, symbolizer, program)
    leaks = [origin for origin in outstanding if origin.is_leak(program)]
    if leaks:
        where = leaking_place(leaks[0], symbolizer, program)
        reason = _describe([leak.row for leak in leaks], where, verdict_input)
        return Verdict.LEAK, "; besides, ".join([reason, *verdict_input.doubts[:1]])
    if verdict_input.doubts:
        return Verdict.UNSURE, "; ".join(verdict_input.doubts)
    unknown = [origin for origin in outstanding if not origin.is_known]
    if unknown:
        return Verdict.UNSURE, _not_known(unknown[0])
    if not verdict_input.has_events:
        return None, "nothing was allocated or freed while kwatch traced"
    if outstanding:
        return Verdict.CLEAN, "only blocks that system libraries keep are outstanding"
    among = " within --min-size and --max-size" if verdict_input.some_sizes else ""
    return Verdict.CLEAN, f"no outstanding block{among} is old enough to count"


def _lost(lost: Lost) -> str:
    events = counted(lost.events, "event of the heap was", "events of the heap were")
    causes = ", ".join(cause.replace("_", " ") for cause in lost.by_cause)
    return "; ".join([f"{events} lost ({causes})", *cures(lost)])


def _not_known(origin: Origin) -> str:
    amount = _amount(origin.row)
    if origin.row.ending is Ending.OFF:
        return f"without stacks, kwatch cannot tell what allocated {amount}"
    if origin.caller is not None and origin.caller.module:
        return f"code in no known file allocated {amount}"
    if origin.library and origin.caller is None:
        return f"the stack of {amount} is cut in {place(origin.library[-1])}: its caller is unknown"
    return f"the caller that allocated {amount} is unknown"


def _describe(leaks: Sequence[StackStats], where: str, verdict_input: VerdictInput) -> str:
    largest = leaks[0]
    ending = "were never freed" if verdict_input.exited else "are still not freed"
    if verdict_input.killed_by:
        ending = f"were not freed before {verdict_input.killed_by}"
    if largest.blocks == 1:
        ending = ending.replace("were", "was").replace("are", "is")
    others = len(leaks) - 1
    more = f", and more from {others:,} other stack{'s' * (others > 1)}" if others else ""
    return f"{_amount(largest)} from {where} {ending}{more}"


def _amount(stack: StackStats) -> str:
    return f"{counted(stack.blocks, 'block')} ({format_size(stack.bytes)})"
