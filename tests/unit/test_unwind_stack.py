# SPDX-License-Identifier: Apache-2.0
"""Stacks unwound from registers and memory, compared with backtrace() of glibc."""

from __future__ import annotations

import enum
import platform
import struct
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kwatch.elf.elf import Elf, Segment
from kwatch.procfs.mappings import parse_mapping
from kwatch.unwind.machines import ARM64, X86_64
from kwatch.unwind.table import Table, build_table
from kwatch.unwind.walk import Region, Regions, Registers, StackMemory, Unwound, unwind
from kwatch.wire import unwind_rows as fmt
from kwatch.wire.unwind_rows import Arm64Ra, RowKind, StackEnd

SOURCE = Path(__file__).with_name("unwind_self.c")
MACHINE = ARM64 if platform.machine() == "aarch64" else X86_64
HEAD = struct.Struct("<7Q")
MAX_FRAMES = 1024


class Case(enum.IntEnum):
    """As in unwind_self.c."""

    PLAIN = 1
    ALLOCA = 2
    ALIGNED = 3
    VARIADIC = 4
    CALLBACK = 5
    THREAD = 6
    DEEP = 7
    SIGNAL = 8
    INTERRUPTED = 9
    STEP = 10


def regions_of(maps):
    found = []
    for line in maps.read_bytes().splitlines():
        mapping = parse_mapping(line)
        if not mapping.executable:
            continue
        table, bias = None, None
        if mapping.inode:
            with Elf.open(mapping.path) as elf:
                table = build_table(elf)
            bias = table.bias(mapping.start, mapping.end, mapping.offset)
        if bias is not None:
            found.append(Region(mapping.start, mapping.end, bias, table))
    return Regions(found)


def records_of(path):
    data, at = path.read_bytes(), 0
    while at < len(data):
        case, pc, sp, fp, lr, frames, size = HEAD.unpack_from(data, at)
        at += HEAD.size
        expected = struct.unpack_from(f"<{frames}Q", data, at)
        at += 8 * frames
        yield Case(case), Registers(pc, sp, fp, lr), expected, StackMemory(sp, data[at : at + size])
        at += size


OPTIONS = {
    "frames omitted": ["-O2", "-fomit-frame-pointer"],
    "frame pointers": ["-O1", "-fno-omit-frame-pointer"],
    "lazy": ["-O2", "-Wl,-z,lazy", "-fcf-protection=none", "-fplt"],
    "lazy, endbr": ["-O2", "-Wl,-z,lazy,-z,ibtplt", "-fcf-protection=full"],
    "frames omitted, bound at once": ["-O2", "-fomit-frame-pointer", "-Wl,-z,now"],
    "unoptimized": ["-O0"],
    "realigned": ["-O2", "-mstackrealign", "-mpreferred-stack-boundary=5"],
    "static": ["-O2", "-static"],
    "not PIE": ["-O2", "-no-pie", "-Wl,-z,lazy"],
}
ONLY_X86 = {"lazy", "lazy, endbr", "realigned"}


@pytest.mark.parametrize("name", OPTIONS)
def test_stacks_agree_with_backtrace(tmp_path, name):
    if name in ONLY_X86 and MACHINE is not X86_64:
        pytest.skip("options of x86-64")
    program = tmp_path / "program"
    subprocess.run(["gcc", *OPTIONS[name], "-pthread", "-o", program, SOURCE], check=True)
    subprocess.run([program, tmp_path], check=True, timeout=60)
    regions, seen, truncated = regions_of(tmp_path / "maps"), Counter(), 0
    for case, registers, expected, stack in records_of(tmp_path / "stacks"):
        found = unwind(MACHINE, registers, stack, regions, MAX_FRAMES)
        seen[case] += 1
        expected = (registers.pc, *expected[1:])
        if kind_at(regions, registers.pc) == RowKind.NONE:
            # linkage stubs of a static program have no FDE
            assert name == "static"
            assert len(expected) == 1
            continue
        if found.end is StackEnd.COMPLETE:
            assert found == Unwound(expected, StackEnd.COMPLETE, False), case.name
            continue
        # mostly lazy binding: the CFA of the resolver is in rbx
        truncated += 1
        assert (case, found.end) == (Case.STEP, StackEnd.UNSUPPORTED)
        assert found.frames == expected[: len(found.frames)]
        resolver = found.frames[-1] - 1
        assert kind_at(regions, resolver) == RowKind.UNSUP or resolver == registers.pc - 1
    assert set(seen) == set(Case) - ({Case.STEP} if MACHINE is ARM64 else set())
    # the others are prologues that realign the stack, with the CFA in r10
    assert truncated < 20 or name not in ("static", "frames omitted, bound at once")
    assert MACHINE is ARM64 or seen[Case.STEP] - truncated > 400


def kind_at(regions, address):
    region = regions.find(address)
    return fmt.kind_of(region.table.rule_at(address - region.bias))


def machine_table(machine, *rules):
    """A table of one row for each 256 bytes of code at 0x1000."""
    rows = np.array(
        [(256 * index, rule) for index, rule in enumerate([*rules, RowKind.NONE])], dtype=fmt.ROW
    )
    size = 256 * len(rules)
    table = Table(machine, 0x1000, size, (Segment(0, 0x1000, size, 5),), rows)
    return Regions([Region(0x1000, 0x1000 + size, 0x1000, table)])


def words(start, **values):
    """A stack copy: `at_N=value` puts a word N bytes above `start`."""
    data = bytearray(4096)
    for name, value in values.items():
        struct.pack_into("<Q", data, int(name.removeprefix("at_")), value)
    return StackMemory(start, bytes(data))


def test_arm64_frames():
    regions = machine_table(
        ARM64,
        fmt.arm64_rule(False, Arm64Ra.REG, 0, 0),
        fmt.arm64_rule(False, Arm64Ra.PAIR, 48, 48),
        fmt.arm64_rule(True, Arm64Ra.ALONE, 32, 16),
        RowKind.END,
    )
    signed = 0x0023_0000_0000_1208
    stack = words(0x8000, at_0=0x8060, at_8=signed, at_112=0x1304)
    found = unwind(ARM64, Registers(0x1000, 0x8000, 0x77, lr=0x1104), stack, regions, MAX_FRAMES)
    assert found == Unwound((0x1000, 0x1104, 0x1208, 0x1304), StackEnd.COMPLETE, False)


def test_arm64_link_register_is_known_in_one_frame_only():
    regions = machine_table(ARM64, fmt.arm64_rule(False, Arm64Ra.REG, 16, 0))
    registers = Registers(0x1000, 0x8000, 0, lr=0x1008)
    found = unwind(ARM64, registers, words(0x8000), regions, MAX_FRAMES)
    assert found == Unwound((0x1000, 0x1008), StackEnd.UNSUPPORTED, False)


def test_arm64_signal_frame():
    regions = machine_table(
        ARM64, RowKind.SIGNAL, fmt.arm64_rule(False, Arm64Ra.REG, 0, 0), RowKind.END
    )
    stack = words(0x8000, at_544=0x9F, at_552=0x1208, at_560=0x8400, at_568=0x1100)
    found = unwind(ARM64, Registers(0x1004, 0x8000, 0), stack, regions, MAX_FRAMES)
    assert found == Unwound((0x1004, 0x1100, 0x1208), StackEnd.COMPLETE, False)


END_AND = (RowKind.END, RowKind.UNSUP, fmt.x86_rule(RowKind.SP, 16), RowKind.NONE)


@pytest.mark.parametrize(
    ("registers", "end", "frames", "by_frame_pointer"),
    [
        (Registers(0x1010, 0x8000, 0), StackEnd.COMPLETE, 1, False),
        (Registers(0x1110, 0x8000, 0), StackEnd.UNSUPPORTED, 1, False),
        (Registers(0x1210, 0x8000, 0), StackEnd.COMPLETE, 2, False),
        (Registers(0x1210, 0x9000, 0), StackEnd.UNREADABLE, 1, False),
        (Registers(0x1210, (1 << 64) - 8, 0), StackEnd.CORRUPT, 1, False),
        (Registers(0x1310, 0x8000, 0), StackEnd.NO_ROW, 1, False),
        (Registers(0x5000, 0x8000, 0x8003), StackEnd.NO_MAPPING, 1, False),
        (Registers(0x5000, 0x8000, 0x8010), StackEnd.COMPLETE, 2, True),
        (Registers(0x1210, 0x8020, 0), StackEnd.TOO_DEEP, 10, False),
    ],
)
def test_how_a_stack_ends(registers, end, frames, by_frame_pointer):
    loop = {f"at_{at}": 0x1214 for at in range(40, 4096, 16)}
    stack = words(0x8000, **{**loop, "at_8": 0x1010, "at_16": 0, "at_24": 0x5001})
    found = unwind(X86_64, registers, stack, machine_table(X86_64, *END_AND), limit=10)
    assert (found.end, len(found.frames), found.by_frame_pointer) == (end, frames, by_frame_pointer)


def test_code_without_a_file_has_no_rows():
    """The BPF programs do the same for a mapping that they know, such as JIT code."""
    regions = Regions([Region(0x5000, 0x6000)])
    found = unwind(X86_64, Registers(0x5000, 0x8000, 0), words(0x8000), regions, MAX_FRAMES)
    assert found == Unwound((0x5000,), StackEnd.NO_ROW, False)
