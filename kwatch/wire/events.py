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

#: Lower stack ids have no frames: they are the index of an allocator function plus one, or a
#: NoCallStack of a system call.
STACK_IDS = 256

#: One batch of records of a single ring: a structured array.
Batch = npt.NDArray[np.void]
Types = npt.NDArray[np.uint8]


class EventType(enum.IntEnum):
    SYSCALL = 1
    SYSCALL_UNFINISHED = 2
    ALLOC = 3
    FREE = 4
    REALLOC_RELEASE = 5
    REALLOC_KEEP = 6
    ALLOC_FAILED = 7
    MAP = 8
    UNMAP = 9
    BRK = 10
    FORK = 11
    EXEC = 12
    EXIT = 13
    CODE_UNMAPPED = 14
    STACK = 15
    STACK_MEMORY = 16
    CALL_STACK = 17
    DISPATCH = 18


def event_type(record: bytes) -> int:
    """The type with which each record of the BPF programs begins."""
    return record[0]


def types_of(batch: Batch) -> Types:
    """The types of the records as one array: to read them once saves passes over the records."""
    return np.ascontiguousarray(batch["type"])


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
    CALLS_MAP_FULL = 4
    THREADS_MAP_FULL = 5
    TARGETS_MAP_FULL = 6
    RESULT_UNREADABLE = 7
    STACK_MEMORY_RING_FULL = 8
    STACK_SCRATCH_BUSY = 9
    HEAP_CALL_ABANDONED = 10
    SHARED_HEAP_UNSEEN = 11
    MAIN_THREAD_ENDED = 12


class ForkKind(enum.IntEnum):
    TRACED = 0
    SHARES = 1
    UNTRACED = 2


class MappingFlag(enum.IntFlag):
    """How a mapping was made: `function` of a MAP event."""

    BY_ALLOCATOR = 1
    OF_FILE = 2
    MOVED = 4


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
        ("reserved", "u4"),
    ]
)

STACKED_SYSCALL = np.dtype([*SYSCALL.descr, ("stack", "u8")])

HEAP = np.dtype(
    [
        ("type", "u1"),
        ("function", "u1"),
        ("reserved", "u2"),
        ("tid", "u4"),
        ("time_ns", "u8"),
        ("address", "u8"),
        ("size", "u8"),
        ("stack", "u8"),
        ("tgid", "u4"),
        ("reserved2", "u4"),
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
