# SPDX-License-Identifier: Apache-2.0
"""What Python and the BPF programs share is the same in both, as a C compiler sees it."""

from __future__ import annotations

import ctypes
import re

import numpy as np
import pytest
from harness import c_headers

from kwatch.session.thread_slots import RecordedSlot
from kwatch.syscalls import capture_format
from kwatch.unwind import machines, walk
from kwatch.wire import events, maps, unwind_rows
from kwatch.wire.allocators import ALLOCATOR_FUNCTIONS

RECORDS = {
    "kwatch_syscall": events.SYSCALL,
    "kwatch_stacked_syscall": events.STACKED_SYSCALL,
    "kwatch_call": events.CALL,
    "kwatch_heap": events.HEAP,
    "kwatch_hit": events.HIT,
    "kwatch_control": events.CONTROL,
    "kwatch_fork": events.FORK,
    "kwatch_exec": events.EXEC,
    "kwatch_exit": events.EXIT,
    "kwatch_last_registers": events.LAST_REGISTERS,
    "kwatch_stack": events.STACK,
    "kwatch_code_unmapped": events.CODE_UNMAPPED,
    "kwatch_stack_memory": events.STACK_MEMORY,
    "kwatch_row": unwind_rows.ROW,
    "capture_cell": capture_format.CELL,
    "capture_nested": capture_format.NESTED_CELL,
    "capture_row": capture_format.ROW,
}

#: Structures that are the first member of others: its name there, and who has it.
FIRST_MEMBERS = {
    "kwatch_syscall": ("call", {"kwatch_stacked_syscall", "kwatch_call"}),
    "kwatch_control": (
        "head",
        {
            "kwatch_fork",
            "kwatch_exec",
            "kwatch_exit",
            "kwatch_last_registers",
            "kwatch_stack",
            "kwatch_code_unmapped",
            "kwatch_stack_memory",
        },
    ),
}

MAP_VALUES = {
    "target": maps.Target,
    "watched": maps.Watched,
    "loss_key": maps.LossKey,
    "call_in_progress": maps.CallInProgress,
    "interrupted_call": maps.InterruptedCall,
    "capture_key": maps.CaptureKey,
    "recorded_call": maps.RecordedCall,
    "kept_pieces": maps.KeptPieces,
    "ring_position": maps.RingPosition,
    "slot": maps.Slot,
    "slot_state": maps.SlotState,
    "io_request": maps.IoRequest,
    "young_state": maps.YoungState,
    "call_sum_key": maps.CallSumKey,
    "call_sum": maps.CallSum,
    "call_sums": maps.CallSums,
    "call_sum_state": maps.CallSumState,
    "noted_thread": maps.NotedThread,
    "file_key": maps.FileKey,
    "file_table": maps.FileTable,
    "code_mapping": maps.CodeMapping,
    "space": maps.Space,
    "pattern": maps.Pattern,
}

#: Members of slots that Python does not read.
C_ONLY = {"last_stack", "release", "thread", "capture", "capture_walk", "thread_user"}

ENUMS = {
    "kwatch_event_type": ("EVENT_", events.EventType),
    "kwatch_abi": ("ABI_", events.Abi),
    "kwatch_loss": ("LOSS_", events.Loss),
    "kwatch_mapping": ("MAPPING_", events.MappingFlag),
    "kwatch_call_stack": ("CALL_STACK_", events.NoCallStack),
    "kwatch_chunk": ("CHUNK_", events.Chunk),
    "kwatch_stack_copy": ("COPY_", events.StackCopy),
    "capture_what": ("WHAT_", capture_format.What),
    "capture_when": ("WHEN_", capture_format.When),
    "capture_from": ("FROM_", capture_format.From),
    "capture_nested_kind": ("NESTED_", capture_format.Nested),
    "capture_row_flag": ("CAPTURE_", capture_format.RowFlag),
    "capture_pieces": ("PIECES_", maps.PieceFlag),
    "capture_selector": ("SELECTOR_", capture_format.Selector),
    "kwatch_hit_flag": ("HIT_", events.HitFlag),
    "kwatch_call_flag": ("RECORDED_", events.RecordedFlag),
    "kwatch_fork_kind": ("FORK_", events.ForkKind),
    "target_flag": ("TARGET_", maps.TargetFlag),
    "call_flag": ("CALL_", maps.CallFlag),
    "call_state": ("CALL_", maps.CallState),
    "memory_role": ("MEMORY_", maps.MemoryRole),
    "special_role": ("SPECIAL_", maps.SpecialRole),
    "alloc_signature": ("SIGNATURE_", maps.AllocSignature),
    "kwatch_row_kind": ("ROW_", unwind_rows.RowKind),
    "kwatch_stack_end": ("STACK_", unwind_rows.StackEnd),
}

#: Enumerators beside the members of the class.
MORE_ENUMERATORS = {
    "kwatch_loss": {"LOSS_CAUSES": len(events.Loss)},
    "kwatch_stack_end": {"STACK_ENDS": len(unwind_rows.StackEnd)},
    "kwatch_row_kind": {
        "ROW_ARM64_FP_BASE": unwind_rows.ARM64_FP_BASE,
        "ROW_ARM64_RA_MASK": unwind_rows.ARM64_RA_MASK,
        **{f"ROW_ARM64_RA_{ra.name}": int(ra) for ra in unwind_rows.Arm64Ra},
    },
}

CONSTANTS = {
    "KWATCH_COMM_LEN": events.COMM_LEN,
    "KWATCH_STACK_CHUNK": events.STACK_CHUNK,
    "KWATCH_MAX_FRAMES": events.MAX_FRAMES,
    "KWATCH_STACK_COPY": events.STACK_COPY,
    "KWATCH_STACK_IDS": events.STACK_IDS,
    "KWATCH_REGISTERS": events.REGISTERS,
    "KWATCH_PIECES": events.PIECES,
    "KWATCH_NO_PIECE": events.NO_PIECE,
    "KWATCH_PLACE_BITS": events.PLACE_BITS,
    "MAX_CAPTURE": maps.MAX_CAPTURE,
    "KEPT_START": maps.KEPT_START,
    "KEPT_PIECE": maps.KEPT_PIECE,
    "CAPTURE_CELLS": capture_format.ROW["cells"].shape[0],
    "CAPTURE_PIECES": events.PIECES,
    "CAPTURE_NO_LIMIT": capture_format.NO_LIMIT,
    "CAPTURE_LOW_32": capture_format.LOW_32,
    "CAPTURE_NO_SELECTOR": capture_format.NO_SELECTOR,
    "CAPTURE_IN_ORDER": capture_format.IN_ORDER,
    "CALL_ROLE_SHIFT": maps.CALL_ROLE_SHIFT,
    "CALL_NUMBERS": maps.CALL_NUMBERS,
    "SOCKETCALL_NUMBERS": maps.SOCKETCALL_NUMBERS,
    "IPC_NUMBERS": maps.IPC_NUMBERS,
    "MAX_PATTERNS": maps.MAX_PATTERNS,
    "COOKIE_SIGNATURE_SHIFT": maps.COOKIE_SIGNATURE_SHIFT,
    "COOKIE_PASSES_NOTHING": maps.COOKIE_PASSES_NOTHING,
    "COOKIE_MOVED_SHIFT": maps.COOKIE_MOVED_SHIFT,
    "COOKIE_MOVED_BITS": maps.COOKIE_MOVED_BITS,
    "COOKIE_FILE_SHIFT": maps.COOKIE_FILE_SHIFT,
    "COOKIE_PUSHED_SHIFT": maps.COOKIE_PUSHED_SHIFT,
    "MAX_ARGUMENTS": maps.MAX_ARGUMENTS,
    "SLOTS": maps.SLOTS,
    "SPILLED_SLOTS": maps.SPILLED_SLOTS,
    "SLOT_BITS": maps.SLOT_BITS,
    "CALL_SUMS": maps.CALL_SUMS,
    "SUM_BUCKETS": maps.SUM_BUCKETS,
    "SUM_NUMBER_SHIFT": maps.SUM_NUMBER_SHIFT,
    "SUM_RANGE_SHIFT": maps.SUM_RANGE_SHIFT,
    "SUM_RETIRED": maps.SUM_RETIRED,
    "SUM_IN_USE": maps.SUM_IN_USE,
    "MAX_PROBED_FILES": maps.MAX_PROBED_FILES,
    "RELEASE_SWITCHES": maps.RELEASE_SWITCHES,
    "MAX_HELD": maps.MAX_HELD,
    "MAX_WATCHED": maps.MAX_WATCHED,
    "KWATCH_NO_CALL": events.NO_CALL,
    "MAX_LAST_REGISTERS": maps.MAX_LAST_REGISTERS,
    "YOUNG_BLOCKS_ROOM": maps.YOUNG_BLOCKS_ROOM,
    "YOUNG_SUMS_ROOM": maps.YOUNG_SUMS_ROOM,
    "YOUNG_ENTRIES": maps.YOUNG_ENTRIES,
    "YOUNG_GROUP": maps.YOUNG_GROUP,
    "YOUNG_GROUPS": maps.YOUNG_GROUPS,
    "YOUNG_FORKS": maps.YOUNG_FORKS,
    "SHARD_SHIFT": maps.SHARD_SHIFT,
    "SHARD_ROWS": maps.SHARD_ROWS,
    "CODE_STEPS": maps.CODE_STEPS,
    "KWATCH_BLOCK_SHIFT": unwind_rows.BLOCK_SHIFT,
    "KWATCH_BLOCK_SIZE": unwind_rows.BLOCK_SIZE,
    # Halvings of the rows that a block may need: one for each byte and the one before.
    "KWATCH_BLOCK_STEPS": unwind_rows.BLOCK_SIZE.bit_length(),
    "STACK_BY_FRAME_POINTER": unwind_rows.STACK_BY_FRAME_POINTER,
    "ROW_X86_SCALED": unwind_rows._X86_SCALED,
    "ROW_X86_FP_SAME": unwind_rows.FP_SAME,
    "ROW_X86_FP_AT_FP": unwind_rows.FP_AT_FP,
    "ARM64_PC_MASK": unwind_rows.ARM64_PC_MASK,
    **{
        f"SIGNAL_X86_{register}": offset
        for register, offset in zip(("FP", "SP", "PC"), walk._X86_SIGNAL, strict=True)
    },
    **{
        f"SIGNAL_ARM64_{register}": offset
        for register, offset in zip(("FP", "LR", "SP", "PC"), walk._ARM64_SIGNAL, strict=True)
    },
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """compiled(EXPECTED): the C values of the expressions that are the keys of EXPECTED."""
    folder = tmp_path_factory.mktemp("wire")

    def values(expected):
        return dict(zip(expected, c_headers.evaluate(folder, expected), strict=True))

    return values


#: Fields whose name is a word of C, and the members that they are.
C_NAMES = {"register": "word"}


def c_path(struct, name):
    """The member of the C structure that is this field of the dtype."""
    name = C_NAMES.get(name, name)
    for first, (member, users) in FIRST_MEMBERS.items():
        if struct in users and name in RECORDS[first].names:
            return f"{member}.{name}"
    return name


def fields_of(struct):
    """Each field that is not padding: its C name, offset and size."""
    if struct in MAP_VALUES:
        mirror = MAP_VALUES[struct]
        for name, _ in mirror._fields_:
            field = getattr(mirror, name)
            yield name, field.offset, field.size
        return
    for name, (dtype, offset, *_) in RECORDS[struct].fields.items():
        if not name.startswith("reserved"):
            yield c_path(struct, name), offset, dtype.itemsize


def size_of(struct):
    return ctypes.sizeof(MAP_VALUES[struct]) if struct in MAP_VALUES else RECORDS[struct].itemsize


def test_structures(compiled):
    expected = {}
    for struct in (*RECORDS, *MAP_VALUES):
        expected[f"sizeof(struct {struct})"] = size_of(struct)
        for name, offset, size in fields_of(struct):
            expected[f"offsetof(struct {struct}, {name})"] = offset
            expected[f"sizeof(((struct {struct} *)0)->{name})"] = size
    assert compiled(expected) == expected


def enumerators_of(enum):
    prefix, mirror = ENUMS[enum]
    members = {f"{prefix}{member.name}": int(member) for member in mirror}
    return members | MORE_ENUMERATORS.get(enum, {})


def test_a_recorded_call_follows_the_others_members(tmp_path):
    """RecordedSlot takes the two for neighbours."""
    offset = "offsetof(struct slot, call) + offsetof(struct call_in_progress, recorded)"
    found = c_headers.evaluate(tmp_path, [offset], ["RECORD"])
    assert found == [RecordedSlot.recorded.offset]


def test_enumerators(compiled):
    expected = {name: value for enum in ENUMS for name, value in enumerators_of(enum).items()}
    assert compiled(expected) == expected


def test_constants(compiled):
    assert compiled(CONSTANTS) == CONSTANTS


def test_the_headers_define_nothing_else():
    assert c_headers.structs() == RECORDS.keys() | MAP_VALUES.keys() | C_ONLY
    assert {enum: set(names) for enum, names in c_headers.enums().items()} == {
        enum: enumerators_of(enum).keys() for enum in ENUMS
    }
    assert c_headers.constants() == CONSTANTS.keys()


@pytest.mark.parametrize("module", [events, maps, unwind_rows])
def test_python_defines_nothing_else(module):
    """A dtype, a structure or an enumeration that is in no header would be compared with none."""
    known = [*RECORDS.values(), *MAP_VALUES.values(), *(mirror for _, mirror in ENUMS.values())]
    known += [events.STACK_PIECE, unwind_rows.Arm64Ra]
    for name, value in vars(module).items():
        is_class = isinstance(value, type) and value.__module__ == module.__name__
        if is_class or isinstance(value, np.dtype):
            assert any(value is each for each in known), name


def test_a_stack_is_a_whole_number_of_chunks():
    assert events.MAX_FRAMES % events.STACK_CHUNK == 0


def test_a_function_index_is_no_stack():
    """An event without a stack carries the index plus one as its stack id."""
    assert len(ALLOCATOR_FUNCTIONS) < events.STACK_IDS


def test_signal_frames_as_glibc_describes_them_on_x86():
    """Its CFI has the CFA at *(rsp + the offset of rsp), the return address at that of rip."""
    rsp, (_, cfa_offset, ra_offset) = 7, walk._X86_SIGNAL
    assert machines._register_plus(machines._SIGNAL_CFA) == (rsp, cfa_offset, b"\x06")
    assert machines._register_plus(machines._SIGNAL_RA) == (rsp, ra_offset, b"")


def test_an_addition_to_a_header_is_noticed(monkeypatch, tmp_path):
    for header in c_headers.SHARED:
        text = (c_headers.BPF / header).read_text()
        added = "#define NEW 1\nenum new {\n\tNEW_ONE,\n};\nstruct added {\n\tint x;\n};\n"
        (tmp_path / header).write_text(re.sub(r"#endif\n\Z", added + "#endif\n", text))
    monkeypatch.setattr(c_headers, "BPF", tmp_path)
    with pytest.raises(AssertionError, match="added"):
        test_the_headers_define_nothing_else()
    assert c_headers.enums()["new"] == ["NEW_ONE"]
    assert "NEW" in c_headers.constants()
