# SPDX-License-Identifier: Apache-2.0
"""Reports what holds the outstanding blocks of a function, at the end of a run."""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

import numpy as np

from kwatch.aggregate.blocks import Blocks
from kwatch.errors import KwatchError
from kwatch.model.frame import Frame
from kwatch.model.holders import HolderReport, HolderSum
from kwatch.model.reach import Amount
from kwatch.processes.process import Process
from kwatch.reach.block_table import Table
from kwatch.reach.holder_sums import HolderSums
from kwatch.reach.scanner import Scanner
from kwatch.report.attribution import StackSymbolizer, leaking_place
from kwatch.report.heap_scans import known_blocks
from kwatch.stacks.lookup import alloc_stack
from kwatch.symbols.stack import Stack
from kwatch.symbols.symbolizer import Symbolizer
from kwatch.symbols.symbolizer_thread import SymbolizerThread
from kwatch.targets.processes import utc_now

_Result = TypeVar("_Result")

_LOOK_S = 0.5  # between checks whether the user has lost patience
_EARLIER = "before kwatch was attached"
_IMPATIENT = "kwatch was told to end"


class HolderReports:
    """`has_patience`: whether to go on."""

    def __init__(
        self, scanner: Scanner, thread: SymbolizerThread, has_patience: Callable[[], bool]
    ) -> None:
        self._scanner = scanner
        self._thread = thread
        self._has_patience = has_patience

    def report(self, process: Process, function: str) -> HolderReport:
        """`error` says why it is not known."""
        try:
            return self._report(process, function)
        except KwatchError as error:
            return HolderReport(utc_now(), process.facts, function, error=str(error))

    def _report(self, process: Process, function: str) -> HolderReport:
        if process.facts.exited or process.heap is None:
            raise KwatchError("it has ended")
        blocks, known = process.heap.live_blocks(), known_blocks(process)
        stacks = {one: alloc_stack(process, one) for one in np.unique(blocks.stacks).tolist()}
        chosen = self._named(lambda symbolizer: stacks_with(function, stacks, symbolizer))
        wanted = blocks.addresses[np.isin(blocks.stacks, np.array(chosen, np.uint64))]
        if not len(wanted) or known is None:
            return HolderReport(utc_now(), process.facts, function)
        try:
            self._scanner.ask_who(process.pid, known, wanted)
        except OSError as error:
            raise KwatchError(f"the heap scanner cannot be started: {error.strerror}") from error
        sums = self._answer()
        return HolderReport(
            time=utc_now(),
            process=process.facts,
            function=function,
            stacks=len(chosen),
            found=sums.found,
            held_by=self._held_by(process, blocks, stacks, sums),
            unheld=sums.unheld,
        )

    def _held_by(
        self, process: Process, blocks: Blocks, stacks: Mapping[int, Stack], sums: HolderSums
    ) -> tuple[HolderSum, ...]:
        by_stack = blocks_by_stack(blocks, sums.blocks)
        names = self._named(
            lambda symbolizer: {
                one: leaking_place(stacks[one], symbolizer, process.facts.exe)
                for one in by_stack
                if one is not None
            }
        )
        totals: dict[tuple[str, str], Amount] = {}
        found = [(("root", root.name), Amount(root.blocks, root.bytes)) for root in sums.roots] + [
            (("block", _EARLIER if one is None else names[one]), amount)
            for one, amount in by_stack.items()
        ]
        for key, amount in found:
            before = totals.get(key, Amount())
            totals[key] = Amount(before.blocks + amount.blocks, before.bytes + amount.bytes)
        listed = (HolderSum(*key, one.blocks, one.bytes) for key, one in totals.items())
        return tuple(sorted(listed, key=lambda one: -one.bytes))

    def _named(self, job: Callable[[Symbolizer], _Result]) -> _Result:
        """The result of a job of the symbolizer. Raises KwatchError."""
        done: SimpleQueue[_Result | Exception] = SimpleQueue()

        def run(symbolizer: Symbolizer) -> None:
            try:
                done.put(job(symbolizer))
            except Exception as error:  # raised below
                done.put(error)

        self._thread.submit(run)
        while True:
            try:
                result = done.get(timeout=_LOOK_S)
            except Empty:
                self._check_patience()
                continue
            if isinstance(result, Exception):
                raise result
            return result

    def _answer(self) -> HolderSums:
        poll = select.poll()
        poll.register(self._scanner.fileno(), select.POLLIN)
        while not self._scanner.has_answer and not poll.poll(_LOOK_S * 1000):
            try:
                self._check_patience()
            except KwatchError:
                self._scanner.stop()
                raise
        return self._scanner.answer_who()

    def _check_patience(self) -> None:
        if not self._has_patience():
            raise KwatchError(_IMPATIENT)


def stacks_with(
    function: str, stacks: Mapping[int, Stack], symbolizer: StackSymbolizer
) -> list[int]:
    """The ids of the stacks in which a function occurs; C++ functions without their arguments."""
    frames = symbolizer.frames(list(stacks.values()))
    return [
        one for one, each in zip(stacks, frames, strict=True) if any(_is(f, function) for f in each)
    ]


def _is(frame: Frame, function: str) -> bool:
    return frame.symbol == function or frame.symbol.partition("(")[0] == function


def blocks_by_stack(blocks: Blocks, holding: Table) -> dict[int | None, Amount]:
    """What blocks hold, by the stack that allocated the holder; None: kwatch has not seen it."""
    found: dict[int | None, Amount] = {}
    at = np.minimum(blocks.addresses.searchsorted(holding["address"]), len(blocks.addresses) - 1)
    is_known = (blocks.addresses[at] == holding["address"]).tolist()
    rows: Sequence[tuple[int, int, int]] = holding.tolist()
    for row, known, stack in zip(rows, is_known, blocks.stacks[at].tolist(), strict=True):
        key = stack if known else None
        before = found.get(key, Amount())
        found[key] = Amount(before.blocks + row[1], before.bytes + row[2])
    return found
