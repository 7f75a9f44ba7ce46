# SPDX-License-Identifier: Apache-2.0
"""The table of calls and its decoding, compared with the running kernel and with strace.

Calls are captured by ptrace, by the rules that the BPF program follows (tools/strace_compare).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

from strace_compare import compare
from syscall_data.calls import formats

from kwatch.kernel import tracefs
from kwatch.syscalls import calls, names
from kwatch.wire.events import Abi

NATIVE = {"x86_64": Abi.X86_64, "aarch64": Abi.AARCH64}.get(os.uname().machine)

#: Lines that differ on purpose, or for which strace is older than the kernel.
EXPECTED = {
    "a time, where strace shows bytes": re.compile(
        r"setsockopt\(\d+, SOL_SOCKET, SO_RCVTIMEO_OLD,"
    ),
    "newer commands have names": re.compile(r"membarrier\(MEMBARRIER_CMD_QUERY"),
    "numbers in decimal, as everywhere in kwatch": re.compile(r"syscall_(999|0x3e7)\("),
    "flags of no terminal, all clear: strace 6.1 shows nothing": re.compile(r"ioctl\(-1, .*TCSETS"),
    "bits of a segment": re.compile(r"set_thread_area\("),
    "an old form of ipc(2), whose type lies in memory": re.compile(r"msgrcv\("),
}


#: How the program is built: natively, and on x86-64 for i386 too. 32-bit ARM is not compared.
PROGRAMS = [pytest.param((), id="native")]
if NATIVE is Abi.X86_64:
    needs = pytest.mark.needs("m32")
    PROGRAMS.append(pytest.param(("-m32", "-static"), id="i386", marks=needs))


@pytest.fixture
def kernel_formats() -> dict[str, list[tuple[str, str]]]:
    root = tracefs.open_root()
    try:
        return formats(root)
    finally:
        os.close(root)


def test_every_call_of_the_running_kernel_has_a_row_with_its_arguments(kernel_formats) -> None:
    """tracefs has the native calls, with as many arguments as registers."""
    assert len(kernel_formats) > 250
    for name, fields in kernel_formats.items():
        call = calls.named(NATIVE, name)
        assert call is not None, f"{name} has no row"
        assert len(call.arguments) == len(fields), (name, fields, call.arguments)


def test_a_c_pointer_is_a_pointer_in_the_table(kernel_formats) -> None:
    """And what is none in C is none, but where a call treats a number as an address."""
    plain = {"addr", "words"}
    for name, fields in kernel_formats.items():
        call = calls.named(NATIVE, name)
        for (ctype, _), argument in zip(fields, call.arguments, strict=True):
            if argument.kind.is_pointer:
                assert "*" in ctype or ctype.endswith("_t"), (name, argument)
            elif "*" in ctype:
                assert argument.kind.base in plain, (name, argument)


def test_the_number_of_each_call_leads_to_its_row(kernel_formats) -> None:
    numbered = {name: names.number(NATIVE, name) for name in kernel_formats}
    assert [name for name, nr in numbered.items() if nr is None] == []
    for name, nr in numbered.items():
        assert calls.call(NATIVE, nr).name == name


def unexpected(result: compare.Comparison) -> list[tuple[str, str]]:
    return [
        (ours, theirs)
        for ours, theirs in result.different
        if not any(pattern.match(ours) for pattern in EXPECTED.values())
    ]


@pytest.mark.needs("strace")
@pytest.mark.parametrize("flags", PROGRAMS)
def test_each_kind_of_argument_reads_as_in_strace(program, tmp_path, flags) -> None:
    binary, folder = program("decoded", *flags), tmp_path / "here"

    def fresh() -> list[str]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return [str(binary), str(folder)]

    theirs = [compare.normal(line) for line in compare.traced_lines(["strace"], fresh())]
    ours = [compare.normal(line) for line in compare.kwatch_lines(fresh())]
    result = compare.aligned(ours, theirs)

    assert result.lines > 200
    assert unexpected(result) == []


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    "command",
    [
        ["find", "/usr/share/doc/bash", "/etc/apt", "-name", "*.gz"],
        ["ls", "-lR", "/etc/apt"],
        ["gcc", "-fsyntax-only", "-x", "c", "/dev/null"],
        [sys.executable, "-S", "-E", "-B", "-c", "import json, subprocess"],
    ],
    ids=lambda command: Path(command[0]).name,
)
def test_lines_of_real_programs_equal_those_of_strace(command) -> None:
    result = compare.compare(command)

    assert result.lines > 50
    assert result.share >= 0.99, result.different[:20]
