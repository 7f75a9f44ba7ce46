# SPDX-License-Identifier: Apache-2.0
"""Which functions allocate for their callers, learnt from the stacks of allocations.

A wrapper of the allocator calls it, or another wrapper, in nearly all stacks in which it occurs. It
has many callers, who ask for many sizes, and it returns the block. With few stacks, the code alone
shows it (kwatch.ownership.code_shape), and a name only if the code cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile
from typing import NamedTuple

from kwatch.model.c_library import is_c_library
from kwatch.model.frame import Frame
from kwatch.model.frame_roles import is_allocator, is_standard, is_start_up, is_wrapper
from kwatch.model.snapshot import Evidence, Wrapper
from kwatch.ownership.code import Shape

MIN_CALLERS = 4  # functions
MIN_SIZES = 4
MIN_CONFIDENCE = 0.9
MAX_DEPTH = 8  # innermost frames of a stack that are looked at
_MAX_LEVELS = 4  # wrappers of wrappers

UNKNOWN = Shape(None, None)

#: A function: its module and its name.
Function = tuple[str, str]


class Sample(NamedTuple):
    """Allocations of one stack, innermost frame first; `size`: the mean of the blocks."""

    frames: Sequence[Frame]
    blocks: int
    size: int


@dataclass(frozen=True, slots=True)
class Overrides:
    """The names that the user gave with --wrapper and --no-wrapper."""

    wrappers: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Count:
    """What is known of one function."""

    frame: Frame
    stacks: int = 0
    direct: int = 0
    blocks: int = 0
    callers: set[Function] = field(default_factory=set)
    sizes: set[int] = field(default_factory=set)


class Wrappers:
    """The wrappers of one program. Without samples, names decide."""

    def __init__(
        self,
        found: Mapping[Function, Wrapper] | None = None,
        known: Iterable[Function] = (),
        overrides: Overrides | None = None,
    ) -> None:
        """`known`: the functions that stacks or code have decided about."""
        self._found = dict(found or {})
        self._known = {*known, *self._found}
        self._overrides = overrides or Overrides()

    def __contains__(self, frame: object) -> bool:
        if not isinstance(frame, Frame):
            return False
        named = _by_user(frame, self._overrides)
        if named is not None:
            return named
        function = _function(frame)
        return function in self._found or (function not in self._known and is_wrapper(frame))

    @property
    def rows(self) -> tuple[Wrapper, ...]:
        """Most blocks first."""
        return tuple(sorted(self._found.values(), key=lambda row: (-row.blocks, row.function)))


def mine(
    samples: Sequence[Sample],
    shape_of: Callable[[Frame], Shape],
    overrides: Overrides | None = None,
) -> Wrappers:
    """Finds the wrappers. `shape_of` reads the code of the function that a frame is in."""
    overrides = overrides or Overrides()

    def shape_of_function(frame: Frame) -> Shape:
        function = _function(frame)
        if function not in shapes:
            shapes[function] = UNKNOWN if frame.inlined else shape_of(frame)
        return shapes[function]

    found: dict[Function, Wrapper] = {}
    known: set[Function] = set()
    shapes: dict[Function, Shape] = {}
    for _ in range(_MAX_LEVELS):
        before = len(found)
        for function, count in _counts(samples, found).items():
            if function in found or not count.direct:
                continue
            evidence, is_certain = _evidence(count, overrides, shape_of_function)
            if evidence is not None:
                found[function] = _wrapper(count, evidence)
            elif is_certain:
                known.add(function)
        if len(found) == before:
            break
    return Wrappers(found, known, overrides)


def _counts(samples: Iterable[Sample], found: Mapping[Function, Wrapper]) -> dict[Function, _Count]:
    counts: dict[Function, _Count] = {}

    def is_seen_through(frame: Frame) -> bool:
        return is_allocator(frame.symbol) or _function(frame) in found

    for sample in samples:
        above = list(dropwhile(is_seen_through, sample.frames[:MAX_DEPTH]))
        names = {_function(frame): frame for frame in reversed(above)}
        for function, frame in names.items():
            counts.setdefault(function, _Count(frame)).stacks += 1
        if above:
            count = counts[_function(above[0])]
            count.direct += 1
            count.blocks += sample.blocks
            count.sizes.add(sample.size)
            count.callers.update(map(_function, above[1:2]))
    return counts


def _evidence(
    count: _Count, overrides: Overrides, shape_of: Callable[[Frame], Shape]
) -> tuple[Evidence | None, bool]:
    """What shows that a function is a wrapper; and otherwise, whether it certainly is none.

    The code is read last, which takes milliseconds.
    """
    named = _by_user(count.frame, overrides)
    if named is not None:
        return (Evidence.USER, True) if named else (None, True)
    if _never_wraps(count.frame) or count.direct / count.stacks < MIN_CONFIDENCE:
        return None, count.stacks >= MIN_CALLERS
    shape = shape_of(count.frame)
    is_common = len(count.callers) >= MIN_CALLERS and len(count.sizes) >= MIN_SIZES
    if is_common and shape.returns_block is not False and shape.sized_by_caller is not False:
        return Evidence.STACKS, True
    if shape.allocates_for_caller:
        return Evidence.CODE, True
    is_unread = shape.returns_block is None or shape.sized_by_caller is None
    return (Evidence.NAME if is_unread and is_wrapper(count.frame) else None), not is_unread


def _never_wraps(frame: Frame) -> bool:
    """The code of libraries of languages and of the C library has rules of its own."""
    is_main = frame.symbol == "main" or is_start_up(frame.symbol)
    return not frame.symbol or is_main or is_c_library(frame) or is_standard(frame)


def _by_user(frame: Frame, overrides: Overrides) -> bool | None:
    """What the user said about a function, by its name without parameters; None: nothing."""
    names = {frame.symbol, frame.symbol.partition("(")[0]}
    if names & overrides.others:
        return False
    return True if names & overrides.wrappers else None


def _wrapper(count: _Count, evidence: Evidence) -> Wrapper:
    return Wrapper(
        count.frame.symbol,
        count.frame.module,
        len(count.callers),
        len(count.sizes),
        count.blocks,
        round(count.direct / count.stacks, 3),
        evidence,
    )


def _function(frame: Frame) -> Function:
    return frame.module, frame.symbol or hex(frame.address)
