# SPDX-License-Identifier: Apache-2.0
"""What Python and the BPF programs share besides the rings: bpf/maps.h in Python.

Without numpy, which is imported while the programs are compiled.
"""

from __future__ import annotations

import ctypes
import enum

#: System call numbers per ABI; the last one stands for itself and all above.
CALL_NUMBERS = 1024
CALL_ROLE_SHIFT = 4
MAX_PATTERNS = 8
COOKIE_SIGNATURE_SHIFT = 8

SHARD_SHIFT = 16
#: Rows of unwind tables in one shard.
SHARD_ROWS = 1 << SHARD_SHIFT
CODE_STEPS = 12
#: Of one process: as many as CODE_STEPS halvings can search.
MAX_MAPPINGS = 1 << CODE_STEPS


class TargetFlag(enum.IntFlag):
    WAITING = 1
    INHERIT = 2
    BY_COMM = 4
    OWN = 8


class CallFlag(enum.IntFlag):
    TRACE = 1
    MEMORY = 2
    NO_RETURN = 4


class MemoryRole(enum.IntEnum):
    MMAP = 0
    OLD_MMAP = 1
    MUNMAP = 2
    MREMAP = 3
    BRK = 4
    PRCTL = 5


class AllocSignature(enum.IntEnum):
    """How an allocator function takes its size and returns its result."""

    MALLOC = 0
    CALLOC = 1
    REALLOC = 2
    REALLOCARRAY = 3
    ALIGNED = 4
    POSIX_MEMALIGN = 5
    FREE = 6
    DELETE = 7
    NEW = 8

    @property
    def argument_registers(self) -> int:
        """How many argument registers the probe reads."""
        return _ARGUMENT_REGISTERS.get(self, 1)


_ARGUMENT_REGISTERS = {
    AllocSignature.CALLOC: 2,
    AllocSignature.REALLOC: 2,
    AllocSignature.ALIGNED: 2,
    AllocSignature.REALLOCARRAY: 3,
    AllocSignature.POSIX_MEMALIGN: 3,
}


class Target(ctypes.Structure):
    _fields_ = (
        ("mm_id", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("unmaps", ctypes.c_uint32),
    )


class LossKey(ctypes.Structure):
    _fields_ = (("tgid", ctypes.c_uint32), ("cause", ctypes.c_uint32))


class CallInProgress(ctypes.Structure):
    _fields_ = (
        ("time_ns", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 4),
        ("tgid", ctypes.c_uint32),
        ("tid", ctypes.c_uint32),
        ("nr", ctypes.c_uint16),
        ("abi", ctypes.c_uint8),
        ("flags", ctypes.c_uint8),
        ("active", ctypes.c_uint32),
        ("waiting", ctypes.c_uint32),
        ("records", ctypes.c_uint32),
    )


class FileKey(ctypes.Structure):
    _fields_ = (
        ("inode", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("changed_s", ctypes.c_uint64),
        ("changed_ns", ctypes.c_uint32),
        ("device", ctypes.c_uint32),
    )


class FileTable(ctypes.Structure):
    _fields_ = (
        ("offset", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("shift", ctypes.c_uint64),
        ("blocks", ctypes.c_uint32),
        ("block_count", ctypes.c_uint32),
    )


class Pattern(ctypes.Structure):
    _fields_ = (
        ("loops", ctypes.c_uint32),
        ("final", ctypes.c_uint32),
        ("accepts", ctypes.c_uint32 * 256),
    )


class CodeMapping(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("bias", ctypes.c_uint64),
        ("blocks", ctypes.c_uint32),
        ("block_count", ctypes.c_uint32),
    )


class Space(ctypes.Structure):
    """`code`: the index of the first CodeMapping, and in the upper half their number."""

    _fields_ = (
        ("mm_id", ctypes.c_uint64),
        ("generation", ctypes.c_uint64),
        ("epoch", ctypes.c_uint64),
        ("unmaps", ctypes.c_uint64),
        ("code", ctypes.c_uint64),
    )
