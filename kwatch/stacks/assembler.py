# SPDX-License-Identifier: Apache-2.0
"""Assembles stacks from the chunks of stack records."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from kwatch.model.frame import Ending
from kwatch.wire import events
from kwatch.wire.events import EventType, event_type
from kwatch.wire.unwind_rows import STACK_BY_FRAME_POINTER, StackEnd

MAX_COPIES = 512  # copies that wait for their stacks or, with these, for tables

_TGID, _STACK = struct.Struct("<I"), struct.Struct("<Q")
_HEAD_SIZE = events.CONTROL.itemsize  # the pid is its last member
_STACK_AT = _HEAD_SIZE + 8  # in struct kwatch_stack; first in struct kwatch_stack_memory

ENDINGS = {
    StackEnd.COMPLETE: Ending.COMPLETE,
    StackEnd.NO_MAPPING: Ending.NO_MAPPING,
    StackEnd.NO_ROW: Ending.NO_ROW,
    StackEnd.UNSUPPORTED: Ending.UNSUPPORTED,
    StackEnd.UNREADABLE: Ending.UNREADABLE,
    StackEnd.CORRUPT: Ending.CORRUPT,
    StackEnd.TOO_DEEP: Ending.TOO_DEEP,
}


@dataclass(slots=True)
class RawStack:
    """Return addresses, innermost first. The first `exact` were found with tables only."""

    pid: int
    stack: int
    end: int
    exact: int
    copy: int
    of_syscall: bool = False
    addresses: list[int] = field(default_factory=list)

    @property
    def by_frame_pointer(self) -> bool:
        return bool(self.end & STACK_BY_FRAME_POINTER)

    @property
    def ending(self) -> Ending:
        ending = ENDINGS[StackEnd(self.end & ~STACK_BY_FRAME_POINTER)]
        if ending is Ending.COMPLETE and self.by_frame_pointer:
            return Ending.FRAME_POINTERS
        return ending


def stack_of(record: bytes) -> tuple[int, int]:
    """The pid and the stack's id of a record of the stack ring."""
    of_memory = event_type(record) == EventType.STACK_MEMORY
    (pid,) = _TGID.unpack_from(record, _HEAD_SIZE - _TGID.size)
    (stack,) = _STACK.unpack_from(record, _HEAD_SIZE if of_memory else _STACK_AT)
    return pid, stack


class StackAssembler:
    """Keeps the chunks of incomplete stacks."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, int], RawStack] = {}

    def add(self, record: bytes) -> RawStack | None:
        """Adds a chunk; returns the stack if it is complete."""
        chunk = np.frombuffer(record, events.STACK, 1)[0]
        key = (int(chunk["tgid"]), int(chunk["stack"]))
        first, total = int(chunk["first"]), int(chunk["total"])
        while len(self._parts) > MAX_COPIES:  # their other chunks were lost
            del self._parts[next(iter(self._parts))]
        if not first:  # a new stack, or one that is sent again
            self._parts[key] = RawStack(
                *key,
                end=int(chunk["end"]),
                exact=int(chunk["exact"]),
                copy=int(chunk["copy"]),
                of_syscall=chunk["type"] == EventType.CALL_STACK,
            )
        raw = self._parts.get(key)
        if raw is None or len(raw.addresses) != first:
            return None  # a chunk was lost and counted; the stack will be sent again
        raw.addresses.extend(chunk["frames"][: total - first].tolist())
        return self._parts.pop(key) if len(raw.addresses) == total else None
