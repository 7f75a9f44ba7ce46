# SPDX-License-Identifier: Apache-2.0
"""Ranges of integers that do not overlap, sorted: of addresses, or of numbers in a table."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, Self, TypeVar


class Interval(Protocol):
    """The integers from `start` up to `end`, which is not included."""

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...

    def part(self, start: int, end: int) -> Self:
        """What remains of it when the rest is cut off."""
        ...


class Range(NamedTuple):
    """An interval without properties."""

    start: int
    end: int

    def part(self, start: int, end: int) -> Range:
        return Range(start, end)


T = TypeVar("T", bound=Interval)


class Intervals(Generic[T]):
    """Sorted intervals, none empty and none overlapping another. Neighbors are not joined."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._items: list[T] = []

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def find(self, number: int) -> T | None:
        """The interval that contains a number."""
        index = bisect_right(self._starts, number) - 1
        if index >= 0 and number < self._items[index].end:
            return self._items[index]
        return None

    def overlapping(self, start: int, end: int) -> list[T]:
        """The intervals that have a number in common with [start, end)."""
        first, last = self._bounds(start, end)
        return self._items[first:last] if start < end else []

    def replace(self, start: int, end: int, new: Sequence[T] = ()) -> list[T]:
        """Cuts [start, end) out of all intervals and puts `new`, which lie in it, there.

        Returns the intervals that it cut or removed, as they were. An empty range changes nothing.
        """
        if start >= end:
            return []
        first, last = self._bounds(start, end)
        old, kept = self._items[first:last], list(new)
        if old:
            if old[0].start < start:
                kept.insert(0, old[0].part(old[0].start, start))
            if old[-1].end > end:
                kept.append(old[-1].part(end, old[-1].end))
        if old or kept:
            self._items[first:last] = kept
            self._starts[first:last] = [item.start for item in kept]
        return old

    def copy(self) -> Intervals[T]:
        other = Intervals[T]()
        other._assign(self)
        return other

    def clear(self) -> None:
        self._starts.clear()
        self._items.clear()

    def _assign(self, other: Intervals[T]) -> None:
        self._starts = other._starts.copy()
        self._items = other._items.copy()

    def _bounds(self, start: int, end: int) -> tuple[int, int]:
        """The indexes between which the intervals overlap [start, end)."""
        first = bisect_right(self._starts, start)
        if first and self._items[first - 1].end > start:
            first -= 1
        return first, bisect_left(self._starts, end, first)
