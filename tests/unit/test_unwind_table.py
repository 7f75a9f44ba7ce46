# SPDX-License-Identifier: Apache-2.0
"""Tables compared with readelf, row by row."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kwatch.elf.elf import Elf
from kwatch.procfs.mappings import read_mappings
from kwatch.unwind.table import Table, build_table, build_table_from_memory
from kwatch.wire import unwind_rows as fmt
from kwatch.wire.unwind_rows import RowKind

_ENTRY = re.compile(r"[0-9a-f]{8} [0-9a-f]+ (?:[0-9a-f]+ )?(CIE|FDE)(?: .*pc=(\w+)\.\.(\w+))?")
_OF_CIE = re.compile(r"FDE cie=(\w+) ")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def table_of(path) -> Table:
    with Elf.open(str(path)) as elf:
        return build_table(elf)


def rows_of_readelf(path):
    """(address, columns by name) of every row that readelf computes, by function."""
    start, cie, cies, names, found = None, "", {}, [], []
    command = ["readelf", "--debug-dump=frames-interp", str(path)]
    # The exit status is 1 if the file names a debug file that is not installed.
    shown = subprocess.run(command, capture_output=True, text=True).stdout
    for line in shown.splitlines():
        entry = _ENTRY.match(line)
        if entry and entry[1] == "CIE":
            start, cie = None, line[:8]
        elif entry:
            start, end = int(entry[2], 16), int(entry[3], 16)
            # A function without instructions has no line below, and neither has the CIE of glibc's
            # signal trampoline, which other tests unwind.
            initial = cies.get(_OF_CIE.search(line)[1])
            found.append((start, end, [(start, initial)] if initial else []))
        elif line.strip().startswith("LOC"):
            names = line.split()[1:]
        elif re.match(r"[0-9a-f]{16} ", line):
            address, *values = re.sub(r" \(\w+\)", "", line).split()
            columns = dict(zip(names, values, strict=True))
            if start is None:
                cies[cie] = columns
            else:
                found[-1][2].append((int(address, 16), columns))
    return found


def effective_rows(path):
    """Each row once, without those that a later row of the same function replaces."""
    for start, end, rows in rows_of_readelf(path):
        last = dict(rows)
        yield from ((pc, columns) for pc, columns in last.items() if start <= pc < end)


def said_by_x86(rule):
    """CFA, rbp and return address of a rule, as readelf prints them; None matches any."""
    kind = RowKind(fmt.kind_of(rule))
    fp = fmt.x86_fp(rule)
    saved = {fmt.FP_SAME: "u", fmt.FP_AT_FP: "exp"}.get(fp, f"c{8 * fp}")
    match kind:
        case RowKind.SP | RowKind.FP:
            name = "rsp" if kind is RowKind.SP else "rbp"
            if (kind, fmt.x86_cfa(rule)) == (RowKind.SP, 0):  # popped, as by vfork()
                return "rsp+0", saved, None
            return f"{name}{fmt.x86_cfa(rule):+d}", saved, "c-8"
        case RowKind.PLT | RowKind.DEREF:
            return "exp", saved, "c-8"
        case RowKind.SIGNAL:
            return "exp", "exp", "exp"
        case RowKind.END:
            return None, None, "u"
    return None


def said_by_arm64(rule):
    kind = fmt.kind_of(rule)
    if kind < RowKind.ARM64:
        return {RowKind.END: (None, None, "u")}.get(kind)
    cfa = f"{'x29' if kind & fmt.ARM64_FP_BASE else 'sp'}{fmt.arm64_cfa(rule):+d}"
    slot = fmt.arm64_slot(rule)
    match fmt.Arm64Ra(kind & fmt.ARM64_RA_MASK):
        case fmt.Arm64Ra.REG:
            return cfa, "u", "u"
        case fmt.Arm64Ra.PAIR:
            return cfa, f"c{-slot:+d}", f"c{8 - slot:+d}"
        case fmt.Arm64Ra.ALONE:
            return cfa, "u", f"c{-slot:+d}"
        case fmt.Arm64Ra.REG_FP:
            return cfa, f"c{-slot:+d}", "u"


def compare(path, said_by, fp):
    """Counts the rows of each kind. Fails if a row and readelf differ."""
    table, kinds, unsupported = table_of(path), Counter(), []
    for pc, columns in effective_rows(path):
        rule = table.rule_at(pc - table.base)
        kinds[RowKind(min(fmt.kind_of(rule), RowKind.ARM64))] += 1
        read = columns["CFA"], columns.get(fp, "u").replace("s", "u"), columns.get("ra", "u")
        said = said_by(rule)
        if said is None:
            unsupported.append(read)
        else:
            expected = tuple(mine or its for mine, its in zip(said, read, strict=True))
            assert read == expected, f"{pc:#x}: {columns}"
    return kinds, unsupported


def libraries():
    names = ("/libc.so", "/ld-linux", "/libstdc++", "/libm.so", "/libcrypto", "/libz.")
    __import__("ssl")
    found = {m.path for m in read_mappings(os.getpid()) if any(n in m.path for n in names)}
    return sorted({*found, str(Path(sys.executable).resolve())})


IS_ARM64 = platform.machine() == "aarch64"


@pytest.mark.parametrize("path", libraries(), ids=lambda path: Path(path).name)
def test_rows_agree_with_readelf(path):
    if IS_ARM64:
        check_arm64(path)
        return
    kinds, unsupported = compare(path, said_by_x86, "rbp")
    assert kinds[RowKind.SP] > 500
    assert kinds[RowKind.NONE] == 0
    # Only assembly that keeps the CFA, rbp or the return address in registers has no row.
    expressible = re.compile(r"(rsp|rbp)[+-]\d+ (u|c-\d+) c-8")
    assert not [row for row in unsupported if expressible.fullmatch(" ".join(row))]


@pytest.mark.skipif(IS_ARM64, reason="its own libraries are compared")
@pytest.mark.needs("cross")
@pytest.mark.parametrize("name", ["libc.so.6", "ld-linux-aarch64.so.1", "libgcc_s.so.1"])
def test_arm64_rows_agree_with_readelf(name):
    check_arm64(f"/usr/aarch64-linux-gnu/lib/{name}")


def check_arm64(path):
    kinds, unsupported = compare(path, said_by_arm64, "x29")
    assert kinds[RowKind.ARM64] > 100
    # longjmp, and the dynamic loader's resolvers, whose return address is above the CFA
    assert len(unsupported) <= 20


@pytest.mark.needs("musl")
def test_the_signal_trampoline_of_musl_is_found_by_its_instructions(tmp_path):
    source, program = tmp_path / "a.c", tmp_path / "program"
    source.write_text("#include <signal.h>\nint main(void) { return signal(1, SIG_IGN) != 0; }")
    run("musl-gcc", "-static", "-g", "-o", str(program), str(source))
    symbols = run("nm", str(program))
    address = int(re.search(r"^(\w+) \w __restore_rt$", symbols, re.MULTILINE)[1], 16)
    table = table_of(program)
    # a handler returns to it, and the look-up is one byte lower
    for pc in (address - 1, address, address + 8):
        assert table.rule_at(pc - table.base) == RowKind.SIGNAL
    assert table.rule_at(address + 9 - table.base) != RowKind.SIGNAL


def test_properties_of_every_table():
    for path in libraries():
        table = table_of(path)
        pcs, kinds = table.rows["pc"].astype(np.int64), table.rows["rule"] & 15
        assert pcs[0] == 0
        assert (np.diff(pcs) > 0).all()
        assert kinds[-1] == RowKind.NONE
        assert (np.diff(table.rows["rule"].astype(np.int64)) != 0).all()
        assert len(table.blocks) == -(-table.size // fmt.BLOCK_SIZE) + 1
        for block in range(0, len(table.blocks), 97):
            index = int(table.blocks[block])
            assert pcs[index] <= block * fmt.BLOCK_SIZE
            assert index + 1 == len(pcs) or pcs[index + 1] > block * fmt.BLOCK_SIZE
        assert (np.diff(table.blocks.astype(np.int64)) <= fmt.BLOCK_SIZE).all()


def test_a_file_without_unwind_information_has_one_row(tmp_path):
    source = tmp_path / "bare.s"
    source.write_text(".globl _start\n_start: nop\n")
    run("gcc", "-nostdlib", "-static", "-o", str(tmp_path / "bare"), str(source))
    table = table_of(tmp_path / "bare")
    assert table.rows.tolist() == [(0, RowKind.NONE)]


def test_stripping_the_section_headers_changes_nothing(tmp_path):
    source, program, stripped = (tmp_path / name for name in ("a.c", "program", "stripped"))
    source.write_text("int main(void) { return 0; }")
    run("gcc", "-O2", "-o", str(program), str(source))
    data = bytearray(program.read_bytes())
    data[0x28:0x30] = bytes(8)  # e_shoff
    data[0x3C:0x40] = bytes(4)  # e_shnum, e_shstrndx
    stripped.write_bytes(data)
    whole, rest = table_of(program), table_of(stripped)
    assert len(whole.rows) > 5
    assert whole.rows.tolist() == rest.rows.tolist()


@pytest.mark.parametrize("options", [["-no-pie"], ["-static"], ["-static-pie"], ["-pie"]])
def test_a_mapping_leads_to_the_rows_of_its_code(tmp_path, options):
    source, program = tmp_path / "a.c", tmp_path / "program"
    source.write_text("int main(void) { return 0; }")
    run("gcc", "-O2", *options, "-o", str(program), str(source))
    table = table_of(program)
    with Elf.open(str(program)) as elf:
        main = elf.functions(["main"])["main"]
    first = table.segments[0].offset & -4096
    start = 0x7F0000000000
    bias = table.bias(start, start + 0x100000, first)
    address = start + main.offset - first
    assert address - bias == main.vaddr - table.base
    assert fmt.kind_of(table.rule_at(address - bias)) >= RowKind.SP
    assert table.bias(start, start + 4096, 1 << 30) is None


def test_the_vdso_from_memory():
    vdso = next(m for m in read_mappings(os.getpid()) if m.path == "[vdso]")
    with open("/proc/self/mem", "rb") as memory:
        memory.seek(vdso.start)
        image = memory.read(vdso.end - vdso.start)
    table = build_table_from_memory(image, "vdso")
    assert table.bias(vdso.start, vdso.end, vdso.offset) == vdso.start + table.base
    assert len(table.rows) > 5
