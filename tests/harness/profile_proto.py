# SPDX-License-Identifier: Apache-2.0
"""Reads profile.proto with Google's own decoder, from a schema that is built here.

The names and numbers are those of https://github.com/google/pprof/blob/main/proto/profile.proto.
"""

from __future__ import annotations

import gzip
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "perftools.profiles"

#: name: number and type; `*` in front of a type is repeated.
_MESSAGES = {
    "Profile": {
        "sample_type": (1, "*ValueType"),
        "sample": (2, "*Sample"),
        "mapping": (3, "*Mapping"),
        "location": (4, "*Location"),
        "function": (5, "*Function"),
        "string_table": (6, "*string"),
        "drop_frames": (7, "int64"),
        "keep_frames": (8, "int64"),
        "time_nanos": (9, "int64"),
        "duration_nanos": (10, "int64"),
        "period_type": (11, "ValueType"),
        "period": (12, "int64"),
        "comment": (13, "*int64"),
        "default_sample_type": (14, "int64"),
    },
    "ValueType": {"type": (1, "int64"), "unit": (2, "int64")},
    "Sample": {"location_id": (1, "*uint64"), "value": (2, "*int64"), "label": (3, "*Label")},
    "Label": {
        "key": (1, "int64"),
        "str": (2, "int64"),
        "num": (3, "int64"),
        "num_unit": (4, "int64"),
    },
    "Mapping": {
        "id": (1, "uint64"),
        "memory_start": (2, "uint64"),
        "memory_limit": (3, "uint64"),
        "file_offset": (4, "uint64"),
        "filename": (5, "int64"),
        "build_id": (6, "int64"),
        "has_functions": (7, "bool"),
        "has_filenames": (8, "bool"),
        "has_line_numbers": (9, "bool"),
        "has_inline_frames": (10, "bool"),
    },
    "Location": {
        "id": (1, "uint64"),
        "mapping_id": (2, "uint64"),
        "address": (3, "uint64"),
        "line": (4, "*Line"),
        "is_folded": (5, "bool"),
    },
    "Line": {"function_id": (1, "uint64"), "line": (2, "int64")},
    "Function": {
        "id": (1, "uint64"),
        "name": (2, "int64"),
        "system_name": (3, "int64"),
        "filename": (4, "int64"),
        "start_line": (5, "int64"),
    },
}


def _schema() -> descriptor_pb2.FileDescriptorProto:
    schema = descriptor_pb2.FileDescriptorProto(
        name="profile.proto", package=_PACKAGE, syntax="proto3"
    )
    for message, members in _MESSAGES.items():
        described = schema.message_type.add(name=message)
        for name, (number, kind) in members.items():
            field = described.field.add(name=name, number=number)
            repeated = kind.startswith("*")
            field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if kind in _MESSAGES:
                field.type, field.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = getattr(field, f"TYPE_{kind.upper()}")
    return schema


class Pprof:
    """A decoded profile whose references are followed. `data` is gzipped."""

    def __init__(self, data: bytes) -> None:
        pool = descriptor_pool.DescriptorPool()
        pool.Add(_schema())
        described = pool.FindMessageTypeByName(f"{_PACKAGE}.Profile")
        self.raw: Any = message_factory.GetMessageClass(described)()
        self.raw.ParseFromString(gzip.decompress(data))
        self.strings = list(self.raw.string_table)
        assert self.strings[0] == ""
        self._functions = self._by_id(self.raw.function)
        self._locations = self._by_id(self.raw.location)
        self.mappings = self._by_id(self.raw.mapping)

    @staticmethod
    def _by_id(rows: Any) -> dict[int, Any]:
        found = {row.id: row for row in rows}
        assert len(found) == len(rows)
        assert 0 not in found
        return found

    def unknown_fields(self) -> int:
        """Bytes that the schema does not explain."""
        known = type(self.raw).FromString(self.raw.SerializeToString())
        known.DiscardUnknownFields()
        return len(self.raw.SerializeToString()) - len(known.SerializeToString())

    @property
    def sample_types(self) -> list[str]:
        return [f"{self.strings[t.type]}/{self.strings[t.unit]}" for t in self.raw.sample_type]

    def stacks(self) -> dict[tuple[tuple[str, ...], ...], list[int]]:
        """Values by stack, innermost location first; a location is its lines, innermost first."""
        found: dict[tuple[tuple[str, ...], ...], list[int]] = {}
        for sample in self.raw.sample:
            stack = tuple(self.lines(number) for number in sample.location_id)
            assert stack not in found
            found[stack] = list(sample.value)
        return found

    def lines(self, location: int) -> tuple[str, ...]:
        """`function file:line` of the functions at a location."""
        return tuple(map(self._line, self._locations[location].line))

    def _line(self, line: Any) -> str:
        function = self._functions[line.function_id]
        file = self.strings[function.filename]
        return f"{self.strings[function.name]} {file}:{line.line}"

    def location(self, line: str) -> Any:
        """The location that begins with the line."""
        [found] = [row for row in self.raw.location if self.lines(row.id)[0] == line]
        return found

    def labels(self) -> set[tuple[tuple[str, str | int], ...]]:
        return {
            tuple(
                (self.strings[label.key], self.strings[label.str] or label.num)
                for label in sample.label
            )
            for sample in self.raw.sample
        }
