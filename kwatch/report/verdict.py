# SPDX-License-Identifier: Apache-2.0
"""Decides whether a process has leaked, and gives the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kwatch.model.frame import Ending
from kwatch.model.growth import GrowthEvidence, StackGain
from kwatch.model.losses import cures
from kwatch.model.reach import Amount, HeapReach
from kwatch.model.snapshot import Lost, StackStats, Verdict
from kwatch.ownership.wrappers import Wrappers
from kwatch.report.attribution import StackSymbolizer, leaking_place
from kwatch.report.reach_text import amount_text, gaps, held_text, lost_text, unproven_text
from kwatch.report.unseen_losses import Origin, UnseenLosses
from kwatch.symbols.stack import Stack
from kwatch.units import counted


@dataclass(frozen=True, slots=True)
class VerdictInput:
    """What the verdict depends on.

    `stacks`: those that hold blocks, the ones that lose most per second first, including those
    that are not listed. `reach`: what the scan of the heap found; None if it was not scanned.
    `live_blocks`: how many blocks are outstanding. `program`: the path of the executable. `lost`:
    the losses that affect the heap's numbers. `unseen_frees`: why blocks may be free already.
    `growth`: what grows without an end, the weightiest first; `growing_stacks`: the stacks of the
    first by id, which need not be listed. `doubts`: why the numbers may not show everything.
    `level`: that memory which kwatch cannot look into has levelled off. `collected`: why there are
    no blocks, if the program has a garbage collector, so that `level` is all there is to know.
    `has_events`: whether kwatch saw enough to judge by. `some_sizes`: blocks of other sizes are not
    traced. `saw_all`: the program was traced from its exec on, so no block is from before.
    `is_forked`: it was traced from its fork on. `pid`: 0 if the process has ended.
    """

    stacks: tuple[tuple[StackStats, Stack], ...]
    reach: HeapReach | None
    live_blocks: int
    program: str
    lost: Lost = field(default_factory=Lost)
    unseen_frees: str = ""
    growth: tuple[GrowthEvidence, ...] = ()
    growing_stacks: Mapping[int, Stack] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    level: str = ""
    collected: str = ""
    has_events: bool = True
    some_sizes: bool = False
    saw_all: bool = False
    is_forked: bool = False
    pid: int = 0


def judge(
    verdict_input: VerdictInput,
    symbolizer: StackSymbolizer,
    find_wrappers: Callable[[], Wrappers] = Wrappers,
) -> tuple[Verdict | None, str]:
    """The verdict on the heap, and the reason in one sentence.

    None if there is nothing to judge. `find_wrappers` finds the functions that the reason skips; it
    takes time, and is called only if the reason names a place.
    """
    reach, doubts = verdict_input.reach, verdict_input.doubts
    places = _Places(verdict_input, symbolizer, find_wrappers)
    reason, notes, earlier = _leak(verdict_input, places), "", ""
    if unseen := _lost_unseen(verdict_input):
        earlier, notes = unseen.text, unseen.notes(verdict_input.pid, not reason)
        if not reason and _is_leak(unseen, verdict_input):
            growth = _growing(verdict_input, places) if verdict_input.growth else ""
            reason, earlier = earlier, growth
        else:
            earlier, notes = earlier + notes, ""
    if reason:
        if doubt := _may_be_held_or_free(verdict_input):
            others = [each for each in doubts if each != verdict_input.unseen_frees]
            return Verdict.UNSURE, _besides(reason + doubt + notes, *others[:1])
        return Verdict.LEAK, _besides(reason + notes, earlier, *doubts[:1])
    if verdict_input.growth:
        return Verdict.GROWING, _besides(_growing(verdict_input, places), earlier, *doubts[:1])
    if reasons := (*_unproven(verdict_input, reach), *doubts):
        return Verdict.UNSURE, _besides("; ".join(reasons), earlier)
    if verdict_input.collected:
        return Verdict.CLEAN, _besides(verdict_input.collected, verdict_input.level)
    if not verdict_input.has_events and not (reach is not None and reach.is_walked):
        return None, "nothing was allocated or freed while kwatch traced"
    among = " within --min-size and --max-size" if verdict_input.some_sizes else ""
    scanned = reach if reach is not None and not reach.error else None
    kind = "other block" if earlier and not verdict_input.some_sizes else "block"
    return Verdict.CLEAN, _besides(held_text(scanned, among, kind), verdict_input.level, earlier)


def _besides(*reasons: str) -> str:
    return "; besides, ".join(filter(None, reasons))


class _Places:
    """Where stacks allocated, as a reason names it."""

    def __init__(
        self,
        verdict_input: VerdictInput,
        symbolizer: StackSymbolizer,
        find_wrappers: Callable[[], Wrappers],
    ) -> None:
        self._stacks = {row.stack: stack for row, stack in verdict_input.stacks}
        self._without = {row.stack for row, _ in verdict_input.stacks if row.ending is Ending.OFF}
        self._stacks = {**verdict_input.growing_stacks, **self._stacks}
        self._program = verdict_input.program
        self._symbolizer = symbolizer
        self._find_wrappers = find_wrappers

    def name(self, identity: int) -> str:
        stack = self._stacks.get(identity)
        if stack is None:
            return "an unknown place"
        if stack.ending is Ending.OFF or identity in self._without:
            return "an unknown place (without stacks, kwatch cannot tell)"
        return leaking_place(stack, self._symbolizer, self._program, self._find_wrappers())


def _unproven(verdict_input: VerdictInput, reach: HeapReach | None) -> Sequence[str]:
    """Why the scan does not prove that nothing is lost."""
    lost_events = verdict_input.lost.events and not _is_walked(reach)
    reasons = [_lost(verdict_input.lost)] if lost_events else []
    if reach is None or reach.error:
        if verdict_input.live_blocks:
            blocks = counted(verdict_input.live_blocks, "block is", "blocks are")
            why = f": {reach.error}" if reach is not None else ""
            reasons.append(f"{blocks} outstanding, and whether they are lost is unknown{why}")
        return reasons
    return [*reasons, *gaps(reach)]


def _may_be_held_or_free(verdict_input: VerdictInput) -> str:
    """Why what seems lost may not be, to follow the reason; empty if it is lost.

    The walk of a heap shows which blocks exist. Elsewhere, events do, and some may be missing.
    """
    reach, lost = verdict_input.reach, verdict_input.lost
    text = unproven_text(reach) if reach is not None else ""
    missing = [_lost(lost)] if lost.events else []
    missing += filter(None, [verdict_input.unseen_frees])
    if missing and not _is_walked(reach):
        text += f"; a free may be missing: {'; '.join(missing)}"
    return text


def _is_walked(reach: HeapReach | None) -> bool:
    return reach is not None and reach.is_walked and not reach.error


def _lost(lost: Lost) -> str:
    events = counted(lost.events, "event of the heap was", "events of the heap were")
    causes = ", ".join(cause.replace("_", " ") for cause in lost.by_cause)
    return "; ".join([f"{events} lost ({causes})", *cures(lost)])


def _losing(verdict_input: VerdictInput) -> list[StackStats]:
    return [row for row, _ in verdict_input.stacks if _lost_blocks(row)]


def _leak(verdict_input: VerdictInput, places: _Places) -> str:
    """Names the stack that loses most per second; empty if none has lost a block.

    A stack whose lost blocks are all held by lost blocks of others is told with these.
    """
    rows = [row for row in _losing(verdict_input) if row.direct.blocks]
    if not rows:
        return ""
    row = rows[0]
    of = f" of {row.blocks:,}" if row.blocks > _lost_blocks(row) else ""
    reason = lost_text(row.direct, f"{of} from {places.name(row.stack)}", row.indirect)
    if row.reach is not None and row.reach.definite < row.direct.blocks:
        reason += ", except from other lost blocks"
    others = len(rows) - 1
    more = f", and more from {others:,} other stack{'s' * (others > 1)}" if others else ""
    return reason + more


def _lost_unseen(verdict_input: VerdictInput) -> UnseenLosses | None:
    """What is lost of the blocks that kwatch did not see allocated; None if nothing is."""
    reach, rows = verdict_input.reach, _losing(verdict_input)
    if reach is None:
        return None
    blocks = reach.lost.blocks - sum(_lost_blocks(row) for row in rows)
    size = reach.lost.bytes - sum(row.lost_bytes for row in rows)
    if min(blocks, size) <= 0:
        return None
    definite = reach.definite.blocks - sum(row.reach.definite for row in rows if row.reach)
    heap_bytes = reach.lost.bytes + reach.possible.bytes + reach.reachable.bytes
    return UnseenLosses(_origin(verdict_input), Amount(blocks, size), definite, heap_bytes)


def _origin(verdict_input: VerdictInput) -> Origin:
    if verdict_input.is_forked:
        return Origin.BEFORE_FORK
    if verdict_input.some_sizes:
        return Origin.OTHER_SIZES
    if verdict_input.saw_all or verdict_input.lost.events:
        return Origin.UNSEEN
    return Origin.BEFORE_ATTACH


def _is_leak(unseen: UnseenLosses, verdict_input: VerdictInput) -> bool:
    """Not what the parent may hold, which is judged with it, or what the user left out."""
    if unseen.origin in (Origin.BEFORE_FORK, Origin.OTHER_SIZES):
        return False
    return verdict_input.saw_all or unseen.are_many


def _growing(verdict_input: VerdictInput, places: _Places) -> str:
    first = verdict_input.growth[0]
    if first.gains:
        return f"{first.sentence}; {_gained(first.gains, places)}"
    if first.stack is None:
        return first.sentence
    row = next((row for row, _ in verdict_input.stacks if row.stack == first.stack), None)
    amount = amount_text(Amount(row.blocks, row.bytes)) if row is not None else "blocks"
    verb = "is" if row is not None and row.blocks == 1 else "are"
    return f"{amount} from {places.name(first.stack)} {verb} outstanding; {first.sentence}"


def _gained(gains: Sequence[StackGain], places: _Places) -> str:
    """Names the place that has gained most. Stacks of one place can differ in generated code."""
    by_place: dict[str, list[StackGain]] = {}
    for gain in gains:
        by_place.setdefault(places.name(gain.stack), []).append(gain)
    sums = {
        place: Amount(sum(each.blocks for each in found), sum(each.bytes for each in found))
        for place, found in by_place.items()
    }
    place = max(sums, key=lambda each: sums[each].bytes)
    return f"the most is from {place}: {amount_text(sums[place])}"


def _lost_blocks(row: StackStats) -> int:
    return row.reach.lost if row.reach is not None else 0
