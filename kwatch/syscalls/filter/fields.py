# SPDX-License-Identifier: Apache-2.0
"""The fields of a call that filters compare, and the operators that each kind of field takes."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Operator(enum.Enum):
    """As users write them; sysdig's names."""

    EQUAL = "="
    UNEQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    IN = "in"
    CONTAINS = "contains"
    STARTSWITH = "startswith"
    ENDSWITH = "endswith"
    GLOB = "glob"
    EXISTS = "exists"


_MEMBER = (Operator.EQUAL, Operator.UNEQUAL, Operator.IN)
_ORDER = (
    Operator.LESS,
    Operator.LESS_OR_EQUAL,
    Operator.GREATER,
    Operator.GREATER_OR_EQUAL,
)
#: Those that compare a pattern with a text.
PATTERNS = (Operator.CONTAINS, Operator.STARTSWITH, Operator.ENDSWITH, Operator.GLOB)


class Kind(enum.Enum):
    """What a field is compared with, and how.

    NUMBER: integers. DURATION: nanoseconds, written with a unit. ERRNO: numbers of errors, written
    as names. TEXT: bytes. CALL: names of system calls. CLASS: names of classes; a call is in many.
    """

    NUMBER = enum.auto()
    DURATION = enum.auto()
    ERRNO = enum.auto()
    TEXT = enum.auto()
    CALL = enum.auto()
    CLASS = enum.auto()


#: The operators of each kind; EXISTS also applies to fields that a call may lack.
OPERATORS = {
    Kind.NUMBER: (*_MEMBER, *_ORDER),
    Kind.DURATION: (*_MEMBER, *_ORDER),
    Kind.ERRNO: _MEMBER,
    Kind.TEXT: (*_MEMBER, *PATTERNS),
    Kind.CALL: (*_MEMBER, *PATTERNS),
    Kind.CLASS: _MEMBER,
}


class Stage(enum.IntEnum):
    """Where a part of a filter is decided."""

    ENTRY = 0
    EXIT = 1
    USER = 2


@dataclass(frozen=True, slots=True)
class Field:
    """A field. `stage`: where it is known first, if the kernel can compare it at all.

    `optional`: calls may lack it. `synonym`: what sysdig calls it.
    """

    name: str
    kind: Kind
    stage: Stage
    meaning: str
    optional: bool = False
    synonym: str = ""

    @property
    def operators(self) -> tuple[Operator, ...]:
        return (*OPERATORS[self.kind], *[Operator.EXISTS] * self.optional)


_FIELDS = (
    Field("pid", Kind.NUMBER, Stage.ENTRY, "process id", synonym="proc.pid"),
    Field("tid", Kind.NUMBER, Stage.ENTRY, "thread id", synonym="thread.tid"),
    Field(
        "comm",
        Kind.TEXT,
        Stage.ENTRY,
        "name of the thread, at most 15 bytes, at the entry",
        synonym="proc.name",
    ),
    Field("uid", Kind.NUMBER, Stage.ENTRY, "real user id, at the entry"),
    Field("cgroup", Kind.TEXT, Stage.USER, "path of the cgroup (version 2)", optional=True),
    Field("cgroup_id", Kind.NUMBER, Stage.ENTRY, "inode number of the cgroup, at the entry"),
    Field("syscall", Kind.CALL, Stage.ENTRY, "name of the call", synonym="evt.type"),
    Field("class", Kind.CLASS, Stage.ENTRY, "a class of the call, as in `-e trace=%CLASS`"),
    Field(
        "ret",
        Kind.NUMBER,
        Stage.EXIT,
        "result, negative for an error",
        optional=True,
        synonym="evt.rawres",
    ),
    Field("error", Kind.ERRNO, Stage.EXIT, "error with which the call failed", optional=True),
    Field(
        "duration",
        Kind.DURATION,
        Stage.EXIT,
        "time from entry to return",
        optional=True,
        synonym="evt.latency",
    ),
    Field(
        "fd",
        Kind.NUMBER,
        Stage.USER,
        "first argument that is a descriptor",
        optional=True,
        synonym="fd.num",
    ),
    Field("path", Kind.TEXT, Stage.USER, "first path that the call names", optional=True),
    *(Field(f"arg{n}", Kind.NUMBER, Stage.ENTRY, f"argument {n}, at the entry") for n in range(6)),
)

FIELDS = {field.name: field for field in _FIELDS}
#: What to write in place of fields of sysdig that kwatch compares in another way.
SIMILAR = {
    "evt.failed": "error exists",
    "evt.res": "error = ENOENT, or ret >= 0",
    "fd.name": "path = /etc/passwd",
    "fd.filename": "path endswith /passwd",
    "user.uid": "uid = 0 (the real user id)",
    "container.id": "cgroup contains ID",
}
#: The same fields by sysdig's names.
SYNONYMS = {field.synonym: field for field in _FIELDS if field.synonym}
