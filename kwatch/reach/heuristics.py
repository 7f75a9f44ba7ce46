# SPDX-License-Identifier: Apache-2.0
"""Interior pointers that programs use as pointers to the start of a block.

The first four rules are those of memcheck's option --leak-check-heuristics=all; the others are
CPython's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kwatch.aggregate.order import U64, Index
from kwatch.reach.memory import PAGE, WORD, Ranges, TargetMemory, as_ranges
from kwatch.reach.pages import PageMap
from kwatch.reach.peek import words_at
from kwatch.reach.ranges import Mask, contains, merged
from kwatch.reach.regions import Region

_WORD = np.uint64(WORD)

#: A vtable is recognized by two functions among so many words: memcheck's VTABLE_MAX_CHECK.
_VTABLE_WORDS, _MIN_FUNCTIONS = 21, 2

#: How much larger a usable size of glibc is than the requested one, at most: 24 bytes are the
#: least, more follow in steps of 16, and large blocks can be mappings of their own.
_LEAST, _MAX_SLACK, _MIN_MAPPED, _MAX_PAGE_SLACK = 24, 15, 1 << 17, PAGE + 15

#: PyTypeObject.tp_flags, unchanged from CPython 3.8 to 3.14 (Include/cpython/object.h), and bits.
_TYPE_FLAGS = np.uint64(168)
_READY, _IS_GC = np.uint64(1 << 12), np.uint64(1 << 14)
#: Py_TPFLAGS_MANAGED_DICT (3.11) and _WEAKREF (3.12): two words stand before the object's head.
_IS_MANAGED = np.uint64(3 << 3)
_HEAD = 16  # sizeof(PyGC_Head), and of the two words


class Interior(NamedTuple):
    """Pointers into blocks, and for each the block's start, size, and what the size can exceed the
    requested one by."""

    values: U64
    starts: U64
    sizes: U64
    slacks: U64

    def where(self, chosen: Mask | Index) -> Interior:
        return Interior(*(column[chosen] for column in self))


def slacks_of(sizes: U64, exact: Mask) -> U64:
    slack = np.where(sizes < _MIN_MAPPED, np.uint64(_MAX_SLACK), np.uint64(_MAX_PAGE_SLACK))
    return np.where(exact, np.uint64(0), np.where(sizes <= _LEAST, sizes, slack))


class Heuristics:
    """The rules for one process. What its vtables and types are is looked up once."""

    def __init__(self, memory: TargetMemory, pages: PageMap, regions: Sequence[Region]) -> None:
        self._memory = memory
        self._pages = pages
        self._readable = [region for region in regions if region.permissions[0] == "r"]
        of_files = [region for region in regions if region.inode]
        self._data = _ranges(region for region in of_files if region.permissions[0] == "r")
        self._code = _ranges(region for region in of_files if region.permissions[2] == "x")
        self._mapped = _ranges(regions)
        self._vtables: dict[int, int] = {}
        self._prefixes: dict[int, int] = {}

    def count_as_starts(self, pointers: Interior) -> Mask:
        """Which of the pointers count as pointers to the start of their block."""
        offsets = pointers.values - pointers.starts
        yes = np.zeros(len(offsets), bool)
        for rule, applies in (
            (self._strings, offsets == 3 * _WORD),
            (self._lengths_and_arrays, offsets == _WORD),
            (self._objects, (offsets == _HEAD) | (offsets == 2 * _HEAD)),
            (self._attributes, _are_aligned(offsets + (offsets & np.uint64(1))) & (offsets < 256)),
            (self._bases, _are_aligned(pointers.values)),
        ):
            at = np.flatnonzero(applies & ~yes)
            if len(at):
                yes[at] = rule(pointers.where(at))
        return yes

    @cached_property
    def _resident(self) -> Ranges:
        """What can be read without effect: reading another page of a file would map it."""
        found = [np.empty((0, 2), np.uint64)]
        for region in self._readable:
            if not region.is_device:
                found.append(self._pages.resident(region.start, region.end, shared=True))
        return merged(np.concatenate(found))

    def _words(self, addresses: U64) -> U64:
        """The word at each address; 0 where there is none in memory."""
        words = np.zeros(len(addresses), np.uint64)
        resident = contains(self._resident, addresses)
        words[resident] = words_at(self._memory, addresses[resident])
        return words

    def _strings(self, pointers: Interior) -> Mask:
        """std::string before C++11's: length, capacity, count, then the characters with a 0."""
        lengths = self._words(pointers.starts)
        capacities = self._words(pointers.starts + _WORD)
        rooms = pointers.sizes - np.uint64(3 * WORD + 1)  # wraps around if the block is too small
        fits = _are_aligned(pointers.starts) & (pointers.sizes > 3 * _WORD) & (capacities <= rooms)
        return fits & (lengths <= capacities) & (rooms - capacities <= pointers.slacks)

    def _lengths_and_arrays(self, pointers: Interior) -> Mask:
        """A block that begins with the size of the rest (sqlite), or the number of elements (C++'s
        operator new[] for classes with destructors)."""
        first = self._words(pointers.starts)
        rest = pointers.sizes - _WORD
        fits = (first > 0) & (first <= rest)
        of_length = fits & (rest - first <= pointers.slacks)
        remainder = rest % np.maximum(first, np.uint64(1))
        return of_length | ((first > 0) & (rest >= first) & (remainder <= pointers.slacks))

    def _bases(self, pointers: Interior) -> Mask:
        """A pointer to a second base class: there is a vtable there and one at the start."""
        inner, outer = self._words(pointers.values), self._words(pointers.starts)
        both = self._may_be_vtable(inner) & self._may_be_vtable(outer)
        tables = np.concatenate((inner[both], outer[both]))
        are = _looked_up(tables, self._vtables, self._are_vtables) != 0
        both[both] = are[: len(are) // 2] & are[len(are) // 2 :]
        return both

    def _may_be_vtable(self, addresses: U64) -> Mask:
        return _are_aligned(addresses) & contains(self._data, addresses)

    def _are_vtables(self, addresses: U64) -> Mask:
        """Where there are only addresses of functions and zeros, up to the second function."""
        steps = np.arange(_VTABLE_WORDS, dtype=np.uint64) * _WORD
        all_addresses = (addresses[:, np.newaxis] + steps).ravel()
        words = np.where(contains(self._data, all_addresses), self._words(all_addresses), 0)
        functions = contains(self._code, words).reshape(-1, _VTABLE_WORDS)
        used = (words != 0).reshape(-1, _VTABLE_WORDS)
        first = used & (np.cumsum(used, axis=1) <= _MIN_FUNCTIONS)
        found: Mask = np.count_nonzero(first & functions, axis=1) == _MIN_FUNCTIONS
        return found

    def _objects(self, pointers: Interior) -> Mask:
        """A Python object, which follows its PyGC_Head, or that head if words precede it."""
        offsets = pointers.values - pointers.starts
        yes = self._are_objects(pointers.values, offsets)
        heads = np.flatnonzero(~yes & (offsets == _HEAD) & (pointers.sizes > 3 * _HEAD))
        objects = pointers.values[heads] + np.uint64(_HEAD)
        yes[heads] = self._are_objects(objects, np.full(len(heads), 2 * _HEAD, np.uint64))
        return yes

    def _are_objects(self, addresses: U64, offsets: U64) -> Mask:
        types = self._words(addresses + _WORD)  # ob_type
        found = _are_aligned(types) & contains(self._mapped, types)
        prefixes = _looked_up(types[found], self._prefixes, self._prefixes_of)
        found[found] = prefixes == offsets[found].astype(np.intp)
        return found

    def _prefixes_of(self, types: U64) -> Index:
        """How many bytes precede an object of each type in its block; -1 if it is no type."""
        metatypes, flags = self._words(
            np.concatenate((types + _WORD, types + _TYPE_FLAGS))
        ).reshape(2, -1)
        are_types = contains(self._mapped, metatypes) & (flags & _READY != 0)
        parts = (flags & _IS_GC != 0).astype(np.intp) + (flags & _IS_MANAGED != 0)
        return np.where(are_types, _HEAD * parts, -1)

    def _attributes(self, pointers: Interior) -> Mask:
        """CPython's PyDictValues (3.11, 3.12): its length and its first byte's distance stand in
        the last bytes before the values, 3.12 marks the pointer by subtracting one."""
        values = pointers.values + (pointers.values & np.uint64(1))
        prefixes = values - pointers.starts
        before = self._words(values - _WORD)
        room = pointers.sizes - prefixes
        most = prefixes - np.uint64(2)  # entries, which have a byte each before the values
        least = np.maximum(prefixes, np.uint64(9)) - np.uint64(9)
        used = before >> np.uint64(48) & np.uint64(0xFF)
        fits: Mask = before >> np.uint64(56) == prefixes
        fits &= (used <= most) & (prefixes < pointers.sizes)
        fits &= (least * _WORD <= room) & (room <= most * _WORD + pointers.slacks)
        return fits


def _are_aligned(addresses: U64) -> Mask:
    aligned: Mask = addresses & (_WORD - np.uint64(1)) == 0
    return aligned


def _looked_up(keys: U64, known: dict[int, int], look_up: Callable[[U64], Mask | Index]) -> Index:
    """The value of each key. What is not known is looked up and added."""
    distinct, which = np.unique(keys, return_inverse=True)
    new = [key for key in distinct.tolist() if key not in known]
    if new:
        known.update(zip(new, look_up(np.array(new, np.uint64)).tolist(), strict=True))
    return np.array([known[key] for key in distinct.tolist()], np.intp)[which]


def _ranges(regions: Iterable[Region]) -> Ranges:
    return merged(as_ranges((region.start, region.end) for region in regions))
