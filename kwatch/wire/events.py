# SPDX-License-Identifier: Apache-2.0
"""The wire format of bpf/events.h as numpy dtypes and enumerations."""

from __future__ import annotations

import enum

import numpy as np
import numpy.typing as npt

COMM_LEN = 16
STACK_CHUNK = 16
MAX_FRAMES = 256
STACK_COPY = 4096
REGISTERS = 32

#: Lower stack ids have no frames: they are the index of an allocator function plus one, or a
#: NoCallStack of a system call.
STACK_IDS = 256

#: Pieces of a program's memory in a record of a call: kwatch.syscalls.capture_format.
PIECES = 13
#: The length of one that was not captured.
NO_PIECE = 0xFFFF
#: `nr` of a HIT that no system call made.
NO_CALL = 0xFFFF
#: Lower bits of `place`; those above have the number of the CPU.
PLACE_BITS = 48

#: One batch of records of a single ring: a structured array.
Batch = npt.NDArray[np.void]
Types = npt.NDArray[np.uint8]


class EventType(enum.IntEnum):
    SYSCALL = 1
    SYSCALL_UNFINISHED = 2
    ALLOC = 3
    FREE = 4
    REUSED = 5
    REALLOC_RELEASE = 6
    REALLOC_KEEP = 7
    ALLOC_FAILED = 8
    PAIRS = 9
    RELEASES = 10
    MAP = 11
    UNMAP = 12
    BRK = 13
    FORK = 14
    EXEC = 15
    EXIT = 16
    CODE_UNMAPPED = 17
    STACK = 18
    STACK_MEMORY = 19
    CALL_STACK = 20
    DISPATCH = 21
    LAST_REGISTERS = 22
    CALL_ENTRY = 23
    THREAD_END = 24
    SIGNAL = 25
    CALL_IN_PROGRESS = 26
    IO_REQUEST = 27
    IO_IN_PROGRESS = 28
    HIT = 29


def event_type(record: bytes) -> int:
    """The type with which each record of the BPF programs begins."""
    return record[0]


def types_of(batch: Batch) -> Types:
    """The types of the records as one array: to read them once saves passes over the records."""
    return np.ascontiguousarray(batch["type"])


def count_events(batch: Batch) -> int:
    """How many events the records of a source stand for: all calls of a sum, two for each block of
    PAIRS.

    RELEASES and REUSED are about the same blocks.
    """
    if "calls" in (batch.dtype.names or ()):
        return int(batch["calls"].sum())
    types = batch["type"]
    blocks = int(batch["tid"][types == EventType.PAIRS].sum(dtype=np.int64))
    others = np.isin(types, (EventType.PAIRS, EventType.RELEASES, EventType.REUSED))
    return len(batch) - int(np.count_nonzero(others)) + 2 * blocks


class Abi(enum.IntEnum):
    X86_64 = 0
    I386 = 1
    X32 = 2
    AARCH64 = 3
    ARM = 4


class Loss(enum.IntEnum):
    SYSCALL_RING_FULL = 0
    HEAP_RING_FULL = 1
    CONTROL_RING_FULL = 2
    STACK_RING_FULL = 3
    SLOTS_FULL = 4
    TARGETS_MAP_FULL = 5
    RESULT_UNREADABLE = 6
    STACK_MEMORY_RING_FULL = 7
    STACK_SCRATCH_BUSY = 8
    HEAP_CALL_ABANDONED = 9
    SHARED_HEAP_UNSEEN = 10
    MAIN_THREAD_ENDED = 11
    CALL_CONTENT = 12
    THREAD_EVENT = 13
    HIT_RING_FULL = 14


class RecordedFlag(enum.IntFlag):
    """`flags` of a CALL."""

    ENTRY = 1
    BYTES = 2
    LOST = 4
    KEPT = 8


class HitFlag(enum.IntFlag):
    """`flags` of a HIT."""

    IN_KERNEL = 1
    HAS_VALUE = 2


class ForkKind(enum.IntEnum):
    TRACED = 0
    SHARES = 1
    UNTRACED = 2


class MappingFlag(enum.IntFlag):
    """How a mapping was made: `function` of a MAP event."""

    BY_ALLOCATOR = 1
    OF_FILE = 2
    MOVED = 4


class Chunk(enum.IntFlag):
    """What the words around a released block say: `size` of a release that is checked."""

    READ = 1
    IN_USE = 2
    FREE = 4
    INVALID = 8
    ON_STACK = 16


class NoCallStack(enum.IntEnum):
    """Why a system call has no stack."""

    LOST = 0
    OFF = 1
    UNSUPPORTED = 2


class StackCopy(enum.IntEnum):
    NOT_NEEDED = 0
    SENT = 1
    SPARED = 2


SYSCALL = np.dtype(
    [
        ("type", "u1"),
        ("abi", "u1"),
        ("nr", "u2"),
        ("tid", "u4"),
        ("time_ns", "u8"),
        ("duration_ns", "u8"),
        ("result", "i8"),
        ("tgid", "u4"),
        ("lap", "u4"),
    ]
)

STACKED_SYSCALL = np.dtype([*SYSCALL.descr, ("stack", "u8")])

#: The records of the syscall rings when each call is recorded.
CALL = np.dtype(
    [
        *SYSCALL.descr,
        ("arguments", "u8", 6),
        ("ip", "u8"),
        ("place", "u8"),
        ("seq", "u4"),
        ("flags", "u2"),
        ("pieces", "u2", PIECES),
        ("comm", f"S{COMM_LEN}"),
        ("cgroup_id", "u8"),
        ("stack", "u8"),
        ("uid", "u4"),
        ("entry_tid", "u4"),
    ]
)

HEAP = np.dtype(
    [
        ("type", "u1"),
        ("function", "u1"),
        ("allocator", "u2"),
        ("tid", "u4"),
        ("time_ns", "u8"),
        ("address", "u8"),
        ("size", "u8"),
        ("stack", "u8"),
        ("tgid", "u4"),
        ("lap", "u4"),
    ]
)

HIT = np.dtype(
    [
        ("type", "u1"),
        ("abi", "u1"),
        ("nr", "u2"),
        ("tid", "u4"),
        ("time_ns", "u8"),
        ("address", "u8"),
        ("ip", "u8"),
        ("sp", "u8"),
        ("value", "u8"),
        ("stack", "u8"),
        ("flags", "u8"),
        ("tgid", "u4"),
        ("lap", "u4"),
    ]
)

CONTROL = np.dtype([("type", "u1"), ("reserved", "u1", 3), ("time_ns", "u8"), ("tgid", "u4")])

FORK = np.dtype(
    [
        *CONTROL.descr,
        ("child", "u4"),
        ("child_kind", "u4"),
        ("child_start_ns", "u8"),
        ("mm_id", "u8"),
        ("comm", f"S{COMM_LEN}"),
    ]
)
EXEC = np.dtype(
    [
        *CONTROL.descr,
        ("matched", "u4"),
        ("old_tid", "u4"),
        ("start_ns", "u8"),
        ("mm_id", "u8"),
        ("comm", f"S{COMM_LEN}"),
    ]
)
EXIT = np.dtype(
    [
        *CONTROL.descr,
        ("status", "u4"),
        ("ended_threads", "u4"),
        ("start_ns", "u8"),
        ("comm", f"S{COMM_LEN}"),
    ]
)
LAST_REGISTERS = np.dtype([*CONTROL.descr, ("tid", "u4"), ("registers", "u8", REGISTERS)])
STACK = np.dtype(
    [
        *CONTROL.descr,
        ("first", "u2"),
        ("total", "u2"),
        ("exact", "u2"),
        ("end", "u1"),
        ("copy", "u1"),
        ("stack", "u8"),
        ("frames", "u8", STACK_CHUNK),
    ]
)
CODE_UNMAPPED = np.dtype([*CONTROL.descr, ("unmaps", "u4"), ("start", "u8"), ("size", "u8")])
STACK_MEMORY = np.dtype(
    [
        *CONTROL.descr,
        ("stack", "u8"),
        ("pc", "u8"),
        ("sp", "u8"),
        ("fp", "u8"),
        ("link", "u8"),
        ("frame", "u4"),
        ("offset", "u4"),
        ("size", "u4"),
        ("interrupted", "u4"),
    ]
)

#: What the stack ring carries.
STACK_PIECE = np.dtype([*STACK_MEMORY.descr, ("bytes", "u1", STACK_COPY)])
