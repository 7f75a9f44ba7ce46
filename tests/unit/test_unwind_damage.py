# SPDX-License-Identifier: Apache-2.0
"""Damaged unwind information makes a table or an ElfError, quickly and in little memory."""

from __future__ import annotations

import contextlib
import resource
import struct
import subprocess
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kwatch.elf import layout
from kwatch.elf.elf import Elf, ElfError, Segment
from kwatch.unwind.machines import ARM64, X86_64
from kwatch.unwind.table import build_table, table_of
from kwatch.unwind.unwind_info import UnwindInfo
from kwatch.unwind.walk import Region, Regions, Registers, StackMemory, unwind
from kwatch.wire.unwind_rows import RowKind

MANY = settings(max_examples=700, deadline=None, suppress_health_check=list(HealthCheck))
TEXT, SIZE, EH_FRAME = 0x1000, 0x10000, 0x20000
MACHINES = st.sampled_from([X86_64, ARM64])


def image_of(eh_frame, machine=X86_64):
    segments = (Segment(TEXT, TEXT, SIZE, 5),)
    return UnwindInfo("damaged", machine, segments, bytes(eh_frame), EH_FRAME, (), None)


def check(table):
    """Checks what bpf/unwind_rows.h guarantees."""
    pcs, kinds = table.rows["pc"].astype(np.int64), table.rows["rule"] & 15
    assert pcs[0] == 0
    assert pcs[-1] <= table.size
    assert (np.diff(pcs) > 0).all()
    assert kinds[-1] == RowKind.NONE
    known = (kinds <= RowKind.SIGNAL) | ((kinds >= RowKind.ARM64) == (table.machine is ARM64))
    assert known.all()
    assert (table.blocks < len(table.rows)).all()


def entry(reference, body, wide=False):
    body = body + bytes(-len(body) % 4)
    if wide:
        return struct.pack("<IQI", 0xFFFFFFFF, len(body) + 4, reference) + body
    return struct.pack("<II", len(body) + 4, reference) + body


def cie(instructions=b"\x0c\x07\x08\x90\x01", encoding=0x1B, column=16, letters=b"zR"):
    augmentation = struct.pack("<BB", 1, encoding)
    return entry(
        0, b"\x01" + letters + b"\0\x01\x78" + bytes([column]) + augmentation + instructions
    )


SIGNED = 0x0B  # addresses and sizes of four bytes, signed and absolute


def absolute(*fdes):
    """As `section`, with virtual addresses of the file."""
    data = bytearray(cie(encoding=SIGNED))
    for start, size, instructions in fdes:
        place = struct.pack("<iiB", TEXT + start, size, 0)
        data += entry(len(data) + 4, place + instructions)
    return bytes(data) + bytes(4)


def section(*fdes, head=None, wide=False):
    """A CIE and FDEs of (start, size, instructions), addresses relative to the code."""
    data = bytearray(cie() if head is None else head)
    for start, size, instructions in fdes:
        at = len(data) + (16 if wide else 8)
        place = struct.pack("<iIB", TEXT + start - (EH_FRAME + at), size, 0)
        data += entry(at - 4, place + instructions, wide)
    return bytes(data) + bytes(4)


def rows_of(eh_frame, machine=X86_64):
    table = table_of(image_of(eh_frame, machine))
    check(table)
    skipped = table.base - TEXT
    rows = [(pc + skipped, rule & 15) for pc, rule in table.rows.tolist()]
    return rows if rows[0][0] == 0 else [(0, NONE), *rows]  # outside the table no row applies


SP, FP, NONE, UNSUP = RowKind.SP, RowKind.FP, RowKind.NONE, RowKind.UNSUP


@pytest.mark.parametrize("wide", [False, True])
def test_entries_of_both_widths(wide):
    fdes = [(0x100, 64, b"\x44\x0e\x10"), (0x200, 16, b"")]
    found = rows_of(section(*fdes, wide=wide))
    assert found == [(0, NONE), (0x100, SP), (0x104, SP), (0x140, NONE), (0x200, SP), (0x210, NONE)]


def test_rows_behind_the_function_and_holes_of_padding_are_left_out():
    fdes = [(0x100, 16, b"\x44\x0e\x10\x4c\x0e\x08"), (0x110, 16, b""), (0x130, 16, b"\x0d\x06")]
    assert rows_of(section(*fdes)) == [
        (0, NONE),
        (0x100, SP),
        (0x104, SP),
        (0x110, SP),
        (0x130, FP),
        (0x140, NONE),
    ]


@pytest.mark.parametrize(
    "instructions",
    [
        b"\x0b",  # DW_CFA_restore_state without a remembered state
        b"\x3f",  # an unknown instruction
        b"\x86",  # a missing operand
        b"\x0f\x7f\x77",  # an expression longer than the function's instructions
        b"\x01\0\0\0\0\0\0\0\0",  # DW_CFA_set_loc
        b"\x0c\x0a\x00",  # the CFA in r10
        b"\x09\x10\x01",  # the return address in a register
        b"\x0e" + b"\xff" * 12,  # an unterminated number
    ],
)
def test_only_the_function_of_an_unsupported_rule_is_unsupported(instructions):
    fdes = [(0x100, 64, b"\x44" + instructions), (0x140, 64, b"")]
    found = rows_of(section(*fdes))
    assert found == [(0, NONE), (0x100, SP), (0x104, UNSUP), (0x140, SP), (0x180, NONE)]


def test_functions_of_a_negative_size_are_left_out():
    """Otherwise it would end before the code, and look-ups would use the tables of other files."""
    assert rows_of(absolute((0x100, -0x101, b""))) == [(0, NONE)]
    found = rows_of(absolute((0x100, 64, b""), (0x200, -0x7FFFFFFF, b""), (0x300, 16, b"")))
    assert [pc for pc, _ in found] == [0, 0x100, 0x140, 0x300, 0x310]


def test_the_end_of_a_thread():
    assert rows_of(section((0x100, 64, b"\x07\x10")))[1] == (0x100, RowKind.END)


def test_functions_of_an_unknown_encoding_are_left_out():
    for head in (cie(encoding=0x3B), cie(letters=b"xR"), cie(encoding=0x07)):
        assert rows_of(section((0x100, 64, b""), head=head)) == [(0, NONE)]


def test_another_return_column_is_unsupported():
    assert rows_of(section((0x100, 64, b""), head=cie(column=5)))[1] == (0x100, UNSUP)


def test_pointer_authentication_changes_nothing():
    head = cie(b"\x0c\x1f\x00", column=30)
    signed = section((0x100, 64, b"\x44\x2d\x44\x0e\x10\x9d\x02\x9e\x01"), head=head)
    plain = section((0x100, 64, b"\x48\x0e\x10\x9d\x02\x9e\x01"), head=head)
    assert rows_of(signed, ARM64) == rows_of(plain, ARM64)
    assert len(rows_of(signed, ARM64)) == 4


@MANY
@given(st.binary(max_size=300), MACHINES)
def test_random_sections(data, machine):
    check(table_of(image_of(data, machine)))


@MANY
@given(
    st.lists(
        st.tuples(st.integers(0, SIZE), st.integers(0, SIZE), st.binary(max_size=40)), max_size=8
    ),
    MACHINES,
)
def test_random_instructions(fdes, machine):
    column = 30 if machine is ARM64 else 16
    check(table_of(image_of(section(*fdes, head=cie(column=column)), machine)))


NUMBER = st.integers(-(1 << 31), (1 << 31) - TEXT - 1) | st.integers(-SIZE, SIZE)


@MANY
@given(st.lists(st.tuples(NUMBER, NUMBER, st.binary(max_size=12)), max_size=8))
def test_random_addresses_and_sizes(fdes):
    check(table_of(image_of(absolute(*fdes))))


@MANY
@given(st.data())
def test_mutated_sections(data):
    mutated = bytearray(
        section(
            (0, 99, b"\x41\x0e\x10\x86\x02\x43\x0d\x06\x0a\x50\x0c\x07\x08\x41\x0b"), (99, 50, b"")
        )
    )
    for _ in range(data.draw(st.integers(1, 6))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    check(table_of(image_of(mutated[: data.draw(st.integers(0, len(mutated)))])))


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    (folder / "a.c").write_text("int main(void) { return 0; }")
    subprocess.run(["gcc", "-s", "-o", folder / "program", folder / "a.c"], check=True)
    return (folder / "program").read_bytes()


@settings(MANY, max_examples=700)
@given(st.data())
def test_mutated_files(program, data):
    mutated = bytearray(program)
    headers = st.integers(0, 64 + 13 * 56)
    sections = st.integers(len(program) - 30 * 64, len(program) - 1)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(headers | sections)
        mutated[at] = data.draw(st.sampled_from([0, 1, 4, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    cut = data.draw(st.just(len(mutated)) | st.integers(0, len(mutated)))
    try:
        with Elf.in_memory(bytes(mutated[:cut]), "mutated") as elf:
            table = build_table(elf)
    except ElfError:
        return
    check(table)


@pytest.mark.parametrize(
    ("first", "size"), [(0, SIZE), (0x4010, 0x20), (SIZE - 0x100, 0x100), (0x37, 1)]
)
def test_a_table_begins_and_ends_with_its_functions(first, size):
    table = table_of(image_of(section((first, size, b""))))
    check(table)
    assert table.base == TEXT + first // 256 * 256
    assert table.base + table.size == TEXT + first + size
    assert len(table.blocks) - 1 <= -(-size // 256) + 1
    for pc in (first - 1, first, first + size - 1, first + size):
        inside = first <= pc < first + size
        assert table.rule_at(TEXT + pc - table.base) & 15 == (SP if inside else NONE)


def far_apart(distance, count):
    """A file with a large code size, `count` functions at the start and one at the end."""
    places = [(0x100 * n, 1, b"\x0e" + bytes([8 * (n % 2)])) for n in range(count)]
    segments = (Segment(0, TEXT, 1 << 31, 5),)
    eh_frame = absolute(*places, (distance, 16, b""))
    return table_of(UnwindInfo("far", X86_64, segments, eh_frame, EH_FRAME, (), None))


def test_few_rows_for_much_code_are_refused():
    """In the kernel each 256 bytes between them take as much memory as a row."""
    assert len(far_apart(40 << 20, 1).rows) == 4
    with pytest.raises(ElfError, match="invalid unwind information"):
        far_apart(1 << 30, 1)
    assert len(far_apart(1 << 30, 40_000).rows) > 80_000


def test_code_beyond_the_end_of_the_file_is_refused(program):
    data = bytearray(program)
    headers = np.frombuffer(data, layout.PROGRAM_HEADER, 13, 64)
    [code] = np.flatnonzero((headers["type"] == layout.PT_LOAD) & (headers["flags"] & 1 > 0))
    headers["filesz"][code] = len(program) - int(headers["offset"][code])
    for more in (0, 1):
        headers["filesz"][code] += more
        with Elf.in_memory(bytes(data), "claim") as elf:
            outcome = pytest.raises(ElfError, match="beyond") if more else contextlib.nullcontext()
            with outcome:
                build_table(elf)


MEMORY = 400 << 20


@pytest.mark.parametrize(
    "hostile",
    [
        section((0, SIZE, b"\x0a" * 200_000)),  # 200,000 remembered states
        section((0, SIZE, b"\x41\x0e\x10\x41\x0e\x08" * 43_000)),
        section(*[(0, SIZE, struct.pack("<BIB", 4, i, 0x0A)) for i in range(100_000)]),
        section((0, SIZE, b"\x1d" + b"\xff" * 8) * 1),
        section((0, SIZE, b"\x0e" + b"\xff" * 9 + b"\x01")),
        # 100,000 references to different CIEs, each as long as the section
        b"".join(struct.pack("<III", 8, 4 * (i % 50_000), 0) for i in range(100_000)),
        b"\x01zR\0" * 500_000,
    ],
    ids=["states", "rows", "functions", "far", "offset", "references", "text"],
)
def test_hostile_sections_cost_little(hostile):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with contextlib.suppress(ElfError):
        check(table_of(image_of(hostile)))
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY >> 10


WORD = st.integers(0, (1 << 64) - 1) | st.integers(0x7FF0, 0x9010) | st.integers(TEXT, TEXT + SIZE)


@MANY
@given(MACHINES, WORD, WORD, WORD, st.lists(WORD, max_size=40), st.binary(max_size=40))
def test_random_stacks(machine, pc, sp, fp, stack, instructions):
    eh_frame = section((0, SIZE, instructions), head=cie(column=machine.ra))
    table = table_of(image_of(eh_frame, machine))
    regions = Regions([Region(TEXT, TEXT + SIZE, TEXT, table)])
    memory = StackMemory(0x8000, struct.pack(f"<{len(stack)}Q", *stack))
    found = unwind(machine, Registers(pc, sp, fp), memory, regions, limit=50)
    assert 1 <= len(found.frames) <= 50
    assert found.frames[0] == pc
