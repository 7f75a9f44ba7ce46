# SPDX-License-Identifier: Apache-2.0
"""Gzipped profile.proto, which pprof and continuous profilers read, with the figures of Go's heap.

Messages and the numbers of their fields are those of
https://github.com/google/pprof/blob/main/proto/profile.proto.
"""

from __future__ import annotations

import gzip
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from kwatch.model.frame import Frame
from kwatch.model.snapshot import ProfileMapping
from kwatch.sinks.profiles.protobuf import integer, nested, packed
from kwatch.sinks.profiles.unit import (
    INUSE_SPACE,
    MEASURES,
    ProcessProfile,
    frames_of,
    losses,
    name_of,
    path_of,
)


def pprof(units: Sequence[ProcessProfile]) -> bytes:
    """A gzipped Profile. Each stack's root frame and each sample's labels name the process."""
    tables = _Tables()
    samples = [row for unit in units for row in _Samples(tables, unit).rows()]
    head = [tables.value_type(1, measure.name, measure.unit) for measure in MEASURES]
    parts = [*head, *samples, _about(tables, units), tables.data()]
    return gzip.compress(b"".join(parts), mtime=0)


def _about(tables: _Tables, units: Sequence[ProcessProfile]) -> bytes:
    """When the profile was taken, what it measures, what was lost."""
    lost = losses(units)
    return (
        integer(9, max((unit.time_ns for unit in units), default=0))
        + integer(10, max((unit.duration_ns for unit in units), default=0))
        + tables.value_type(11, "space", "bytes")
        + integer(12, 1)
        + (packed(13, [tables.string(lost)]) if lost else b"")
        + integer(14, tables.string(INUSE_SPACE.name))
    )


class _Table:
    """The distinct rows of one field of Profile."""

    def __init__(self, field: int, first_id: int = 1) -> None:
        self._field = field
        self._first_id = first_id
        self._ids: dict[object, int] = {}
        self.rows: list[bytes] = []

    def id_of(self, key: object, row: Callable[[int], bytes]) -> int:
        """`row` makes the message for a new key from its id. It may add to other tables only."""
        known = self._ids.get(key)
        if known is None:
            known = self._ids[key] = len(self._ids) + self._first_id
            self.rows.append(nested(self._field, row(known)))
        return known


class _Tables:
    """The tables that samples point into. Mappings and locations belong to one process."""

    def __init__(self) -> None:
        self._strings = _Table(6, first_id=0)
        self._functions = _Table(5)
        self._locations = _Table(4)
        self._mappings = _Table(3)
        self.string("")

    def data(self) -> bytes:
        tables = (self._mappings, self._locations, self._functions, self._strings)
        return b"".join(row for table in tables for row in table.rows)

    def string(self, text: str) -> int:
        return self._strings.id_of(text, lambda _: text.encode())

    def value_type(self, field: int, name: str, unit: str) -> bytes:
        return nested(field, integer(1, self.string(name)) + integer(2, self.string(unit)))

    def mapping(self, pid: int, code: ProfileMapping) -> int:
        described = (1, 1, 1, 1)  # has functions, files, lines, inlined functions
        return self._mappings.id_of(
            (pid, code),
            lambda number: (
                integer(1, number)
                + integer(2, code.start)
                + integer(3, code.end)
                + integer(4, code.offset)
                + integer(5, self.string(path_of(code.path)))
                + integer(6, self.string(code.build_id))
                + b"".join(integer(7 + n, yes) for n, yes in enumerate(described))
            ),
        )

    def location(self, pid: int, mapping: int, frames: tuple[Frame, ...]) -> int:
        """`frames`: inlined functions and the function that contains them, innermost first."""
        address = max(frames[-1].address - 1, 0)  # the call, not the return address
        return self._locations.id_of(
            (pid, mapping, frames),
            lambda number: (
                integer(1, number)
                + integer(2, mapping)
                + integer(3, address)
                + b"".join(nested(4, self._line(frame)) for frame in frames)
            ),
        )

    def _line(self, frame: Frame) -> bytes:
        return integer(1, self._function(name_of(frame), path_of(frame.file))) + integer(
            2, frame.line
        )

    def _function(self, name: str, file: str) -> int:
        return self._functions.id_of(
            (name, file),
            lambda number: (
                integer(1, number)
                + integer(2, self.string(name))
                + integer(3, self.string(name))
                + integer(4, self.string(file))
            ),
        )


class _Samples:
    """The samples of one process."""

    def __init__(self, tables: _Tables, unit: ProcessProfile) -> None:
        self._tables = tables
        self._unit = unit
        self._code = sorted(unit.profile.code, key=lambda code: code.start)
        self._starts = [code.start for code in self._code]
        for code in unit.profile.code:
            tables.mapping(unit.pid, code)
        self._root = tables.location(unit.pid, 0, (Frame(0, unit.name),))

    def rows(self) -> Iterator[bytes]:
        process, pid = map(self._tables.string, ("process", "pid"))
        name = self._tables.string(self._unit.name)
        labels = nested(3, integer(1, process) + integer(2, name))
        labels += nested(3, integer(1, pid) + integer(3, self._unit.pid))
        for stack in self._unit.profile.stacks:
            values = [measure.of(stack) for measure in MEASURES]
            locations = [*self._locations(frames_of(stack)), self._root]
            yield nested(2, packed(1, locations) + packed(2, values) + labels)

    def _locations(self, frames: Sequence[Frame]) -> Iterator[int]:
        """One for each physical frame, with the functions inlined into it."""
        start = 0
        for end, frame in enumerate(frames, 1):
            if not frame.inlined or end == len(frames):
                mapping = self._mapping(frame)
                yield self._tables.location(self._unit.pid, mapping, tuple(frames[start:end]))
                start = end

    def _mapping(self, frame: Frame) -> int:
        """0 if the frame's module is no longer mapped there."""
        index = bisect_right(self._starts, frame.address - 1) - 1
        if index < 0:
            return 0
        code = self._code[index]
        if frame.address > code.end or code.path != frame.module:
            return 0
        return self._tables.mapping(self._unit.pid, code)
