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
#: The calls inside i386's socketcall and ipc have these numbers plus the first argument.
SOCKETCALL_NUMBERS = 960
IPC_NUMBERS = 984
MAX_PATTERNS = 8
#: Bytes of one capture: an area has so many more than its size.
MAX_CAPTURE = 0x20000
#: What is kept of a call in progress: where the last piece may begin, and how long it may be.
KEPT_START = 128
KEPT_PIECE = 256
COOKIE_SIGNATURE_SHIFT = 8
COOKIE_PASSES_NOTHING = 1 << 15
COOKIE_MOVED_SHIFT = 16
COOKIE_MOVED_BITS = 6
COOKIE_FILE_SHIFT = 40
COOKIE_PUSHED_SHIFT = 56
MAX_ARGUMENTS = 4
#: Files with an allocator that are told apart, each time that one is attached.
MAX_PROBED_FILES = 16384
SLOT_BITS = 14
#: Of threads, and behind them those of further threads.
SLOTS = 2 << SLOT_BITS
SPILLED_SLOTS = 16384
#: System calls are summed up in so many places for each CPU: see bpf/call_sums.h.
CALL_SUMS = 1024
#: Buckets of the histogram in one of them.
SUM_BUCKETS = 64
SUM_NUMBER_SHIFT = 8
SUM_RANGE_SHIFT = 24
SUM_RETIRED = 1 << 30
SUM_IN_USE = 1 << 31
#: Processes whose pids have the same lower bits share a switch: see bpf/release_stacks.h.
RELEASE_SWITCHES = 1024
#: Processes whose memory is held.
MAX_WATCHED = 64
MAX_HELD = 64
#: Threads of such a process whose registers are recorded at its end.
MAX_LAST_REGISTERS = 1024

#: The table of bpf/young_blocks.h: its entries, those of a group, and counters of forks.
YOUNG_BLOCKS_ROOM = 16384
YOUNG_SUMS_ROOM = 2048
YOUNG_ENTRIES = YOUNG_BLOCKS_ROOM + YOUNG_SUMS_ROOM
YOUNG_GROUP = 512
YOUNG_GROUPS = YOUNG_ENTRIES // YOUNG_GROUP
YOUNG_FORKS = 1024

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
    HEAP_ONLY = 16
    UNSEEN = 32
    FORKED = 64


class CallFlag(enum.IntFlag):
    TRACE = 1
    MEMORY = 2
    NO_RETURN = 4
    SPECIAL = 8


class CallState(enum.IntEnum):
    NONE = 0
    ENTERED = 1
    BEGAN_EARLIER = 2
    BORN = 3
    UNSEEN = 4


class SpecialRole(enum.IntEnum):
    """Calls whose results or arguments are not like those of others."""

    SIGRETURN = 0
    RESTART = 1
    KILL = 2
    NEVER_FAILS = 3
    SETS_USER = 4
    SOCKETCALL = 5
    IPC = 6


class PieceFlag(enum.IntFlag):
    """Flags of a row of the capture plan beside those of kwatch.syscalls.capture_format."""

    AT_ENTRY = 16
    AT_EXIT = 32
    ON_ERROR = 64


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
    REALLOCF = 9
    RESIZE = 10
    HEAP_CALLOC = 11
    HEAP_REALLOC = 12
    HEAP_REALLOCF = 13
    HEAP_REALLOCARRAY = 14
    HEAP_ALIGNED = 15
    HEAP_FREE = 16
    METHOD_REALLOC = 17

    @property
    def arguments(self) -> tuple[int, ...]:
        """The arguments that the probe reads, from 0."""
        return _ARGUMENTS.get(self, (0,))


_ARGUMENTS = {
    AllocSignature.CALLOC: (0, 1),
    AllocSignature.REALLOC: (0, 1),
    AllocSignature.REALLOCF: (0, 1),
    AllocSignature.RESIZE: (0, 1),
    AllocSignature.ALIGNED: (1,),
    AllocSignature.REALLOCARRAY: (0, 1, 2),
    AllocSignature.POSIX_MEMALIGN: (0, 2),
    AllocSignature.HEAP_CALLOC: (1, 2),
    AllocSignature.HEAP_REALLOC: (1, 2),
    AllocSignature.HEAP_REALLOCF: (1, 2),
    AllocSignature.HEAP_REALLOCARRAY: (1, 2, 3),
    AllocSignature.HEAP_ALIGNED: (2,),
    AllocSignature.HEAP_FREE: (1,),
    AllocSignature.METHOD_REALLOC: (1, 3),
}


class Target(ctypes.Structure):
    _fields_ = (
        ("mm_id", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("unmaps", ctypes.c_uint32),
        ("owner", ctypes.c_uint32),
        ("ended_threads", ctypes.c_uint32),
    )


class Watched(ctypes.Structure):
    _fields_ = (
        ("mm_id", ctypes.c_uint64),
        ("reads_value", ctypes.c_uint32),
        ("stops", ctypes.c_uint32),
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
        ("state", ctypes.c_uint8),
        ("waiting", ctypes.c_uint8),
        ("interrupted", ctypes.c_uint8),
        ("mapping", ctypes.c_uint8),
        ("records", ctypes.c_uint32),
        ("in_window", ctypes.c_uint32),
    )


class RecordedCall(ctypes.Structure):
    """Behind a CallInProgress, before its stack, if calls are recorded."""

    _fields_ = (
        ("arguments", ctypes.c_uint64 * 6),
        ("ip", ctypes.c_uint64),
        ("seq", ctypes.c_uint32),
        ("flags", ctypes.c_uint16),
        ("missing", ctypes.c_uint16),
        ("comm", ctypes.c_char * 16),
        ("cgroup_id", ctypes.c_uint64),
        ("uid", ctypes.c_uint32),
        ("tid", ctypes.c_uint32),
    )


class Slot(ctypes.Structure):
    """The first members of a slot: more may follow, such as the thread's allocator call."""

    _fields_ = (
        ("stack", ctypes.c_uint64),
        ("task", ctypes.c_uint64),
        ("generation", ctypes.c_uint64),
        ("tid", ctypes.c_uint32),
        ("tgid", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("owner", ctypes.c_uint32),
        ("is_target", ctypes.c_uint8),
        ("is_spilled", ctypes.c_uint8),
        ("window", ctypes.c_uint16),
        ("serial", ctypes.c_uint32),
        ("call", CallInProgress),
    )


class KeptPieces(ctypes.Structure):
    """The last member of a slot where calls are recorded. `pieces`: the first six and the last."""

    _fields_ = (
        ("pieces", ctypes.c_uint16 * 7),
        ("used", ctypes.c_uint16),
        ("bytes", ctypes.c_uint8 * (KEPT_START + KEPT_PIECE)),
    )


class CaptureKey(ctypes.Structure):
    """`number`: abi * CALL_NUMBERS + the call's."""

    _fields_ = (("number", ctypes.c_uint32), ("command", ctypes.c_uint32))


class RingPosition(ctypes.Structure):
    """Of one CPU's ring; `tail` is the reader's, and in a cache line of its own."""

    _fields_ = (
        ("head", ctypes.c_uint64),
        ("mask", ctypes.c_uint64),
        ("shift", ctypes.c_uint64),
        ("wake", ctypes.c_uint64),
        ("reserved", ctypes.c_uint64 * 4),
        ("tail", ctypes.c_uint64),
        ("reserved2", ctypes.c_uint64 * 7),
    )


class SlotState(ctypes.Structure):
    _fields_ = (
        ("address", ctypes.c_uint64),
        ("spilled", ctypes.c_uint64),
        ("generation", ctypes.c_uint32),
        ("moves", ctypes.c_uint32),
    )


class IoRequest(ctypes.Structure):
    _fields_ = (
        ("time_ns", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("user_data", ctypes.c_uint64),
        ("comm", ctypes.c_char * 16),
        ("tgid", ctypes.c_uint32),
        ("tid", ctypes.c_uint32),
        ("opcode", ctypes.c_uint8),
        ("is_copy", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8 * 6),
    )


class YoungState(ctypes.Structure):
    _fields_ = (("by_stack", ctypes.c_uint64), ("is_used", ctypes.c_uint64 * YOUNG_GROUPS))


class CallSumKey(ctypes.Structure):
    """`process`: the tgid, and in the upper half the serial of the target; 0: free."""

    _fields_ = (
        ("process", ctypes.c_uint64),
        ("call", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


class CallSum(ctypes.Structure):
    """`time_ns`: at the return of the first call."""

    _fields_ = (
        ("time_ns", ctypes.c_uint64),
        ("total_ns", ctypes.c_uint64),
        ("max_ns", ctypes.c_uint64),
        ("errors", ctypes.c_uint64),
        ("reserved", ctypes.c_uint64 * 4),
        ("buckets", ctypes.c_uint64 * SUM_BUCKETS),
    )


class CallSums(ctypes.Structure):
    """Of one CPU; a sum has the place of its key."""

    _fields_ = (("keys", CallSumKey * CALL_SUMS), ("sums", CallSum * CALL_SUMS))


class CallSumState(ctypes.Structure):
    _fields_ = (("window", ctypes.c_uint64), ("is_full", ctypes.c_uint64))


class NotedThread(ctypes.Structure):
    _fields_ = (("tgid", ctypes.c_uint32), ("state", ctypes.c_uint32))


class InterruptedCall(ctypes.Structure):
    """With stacks, the values of the map are longer: the id of the stack follows."""

    _fields_ = (
        ("sp", ctypes.c_uint64),
        ("pc", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("in_handler", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("call", CallInProgress),
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
