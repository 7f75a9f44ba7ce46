# SPDX-License-Identifier: Apache-2.0
"""Finds the wrappers of the allocator in one process, with the names and the code of its stacks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kwatch.elf.elf import ElfError
from kwatch.model.frame import Frame
from kwatch.model.snapshot import StackTotals, Wrapper
from kwatch.ownership.code import Shape
from kwatch.ownership.wrappers import MAX_DEPTH, UNKNOWN, Overrides, Sample, Wrappers, mine
from kwatch.procfs.address_space import ReturnAddress
from kwatch.report.attribution import StackSymbolizer
from kwatch.symbols.stack import Stack

#: Stacks that are looked at, those with the most bytes: to list the wrappers, and to skip them.
MAX_LISTED, MAX_SKIPPED = 1024, 16


@dataclass(frozen=True, slots=True)
class WrapperInput:
    """`stacks`: most bytes first. `is_listed`: the report lists the wrappers."""

    stacks: tuple[tuple[StackTotals, Stack], ...]
    overrides: Overrides
    is_listed: bool = False


class LazyWrappers:
    """Finds the wrappers when they are needed for the first time. `input_`: None: names decide."""

    def __init__(self, input_: WrapperInput | None, symbolizer: StackSymbolizer) -> None:
        self._input = input_
        self._symbolizer = symbolizer
        self._is_listed = input_ is not None and input_.is_listed
        self.known = Wrappers()  # as far as they have been found
        if self._is_listed:
            self.find()

    def find(self) -> Wrappers:
        if self._input is not None:
            self.known = mined(self._input, self._symbolizer)
            self._input = None
        return self.known

    @property
    def listed(self) -> tuple[Wrapper, ...] | None:
        """None unless the user asked for them."""
        return self.known.rows if self._is_listed else None


def most_bytes(totals: Iterable[StackTotals], number: int) -> list[StackTotals]:
    """The stacks that have allocated most, or that hold most if that is all that is known."""
    ranked = sorted(totals, key=lambda row: (-row.alloc_bytes, -row.live_bytes, row.stack))
    return ranked[:number]


def mined(wrapper_input: WrapperInput, symbolizer: StackSymbolizer) -> Wrappers:
    rows = [row for row, _ in wrapper_input.stacks]
    stacks = [_innermost(stack) for _, stack in wrapper_input.stacks]
    named = symbolizer.frames(stacks)
    samples = [_sample(row, frames) for row, frames in zip(rows, named, strict=True)]
    places = {address.address: (stack, address) for stack in stacks for address in stack.addresses}

    def shape_of(frame: Frame) -> Shape:
        place = places.get(frame.address)
        return _shape(frame, *place, symbolizer) if place is not None else UNKNOWN

    return mine(samples, shape_of, wrapper_input.overrides)


def _innermost(stack: Stack) -> Stack:
    """Only the frames that matter, which are to be named."""
    if len(stack.addresses) <= MAX_DEPTH or stack.frames:
        return stack
    return replace(stack, addresses=stack.addresses[:MAX_DEPTH])


def _sample(row: StackTotals, frames: tuple[Frame, ...]) -> Sample:
    blocks, size = row.alloc_blocks, row.alloc_bytes
    if not blocks:
        blocks, size = row.live_blocks, row.live_bytes
    return Sample(frames, blocks, size // max(blocks, 1))


def _shape(
    frame: Frame, stack: Stack, address: ReturnAddress, symbolizer: StackSymbolizer
) -> Shape:
    from kwatch.ownership.code_shape import shape  # few runs look for wrappers

    code = symbolizer.code(stack, address, frame.offset) if frame.symbol else None
    try:
        return shape(code) if code is not None else UNKNOWN
    except ElfError:  # its file is damaged
        return UNKNOWN
