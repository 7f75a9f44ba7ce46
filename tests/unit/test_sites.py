# SPDX-License-Identifier: Apache-2.0
"""Probe sites on code with known answers."""

from __future__ import annotations

import platform
import subprocess

import pytest

from kwatch.probes.finder import AllocatorFinder
from kwatch.probes.sites import exit_offsets, site_offset
from kwatch.symbols.elf import Elf

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 instructions")

CODE = {
    # name: (assembly, offset to probe with one argument)
    "at_push": ("push %rbp\n pop %rbp\n ret", 0),
    "behind_test": ("test %rdi, %rdi\n je 1f\n nop\n1: ret", 3),
    "behind_endbr": ("endbr64\n push %rbx\n pop %rbx\n ret", 4),
    "argument_written": ("mov %rsi, %rdi\n push %rbx\n pop %rbx\n ret", 0),
    "part_of_argument_written": ("xor %edi, %edi\n nop\n ret", 0),
    "stack_moved": ("sub $8, %rsp\n nop\n add $8, %rsp\n ret", 0),
    "entered_between": ("mov %rdi, %rax\n1: dec %rax\n jne 1b\n ret", 0),
    "nothing_emulated": ("mov %rdi, %rax\n ret", 0),
}


@pytest.fixture(scope="module")
def elf(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sites")
    lines = []
    for name, (assembly, _) in CODE.items():
        lines.append(f".globl {name}\n.type {name}, @function\n{name}:\n {assembly}")
        lines.append(f".size {name}, . - {name}")
    lines.append(
        ".globl two_exits\n.type two_exits, @function\ntwo_exits:\n test %rdi, %rdi\n jne elsewhere"
        "\n ret\n.size two_exits, . - two_exits\nelsewhere:\n nop\n ret\n"
        ".globl lost\n.type lost, @function\nlost:\n jmp *%rax\n.size lost, . - lost\n"
    )
    source, library = directory / "code.S", directory / "code.so"
    source.write_text("\n".join(lines) + "\n.section .note.GNU-stack\n")
    subprocess.run(["gcc", "-shared", "-nostdlib", "-o", library, source], check=True)
    with Elf.open(str(library)) as opened:
        yield opened


@pytest.mark.parametrize("name", CODE)
def test_site(elf, name):
    function = elf.functions([name])[name]
    assert site_offset(elf, function, 1) == CODE[name][1]


def test_exits_are_followed_through_jumps(elf):
    functions = elf.functions(["two_exits", "lost"])
    exits = exit_offsets(elf, functions["two_exits"])
    assert len(exits) == 2
    assert all(elf.read(elf.vaddr_of(offset), 1) == b"\xc3" for offset in exits)
    assert exit_offsets(elf, functions["lost"]) is None


def test_a_file_without_an_allocator_and_one_that_is_no_program(tmp_path):
    finder = AllocatorFinder()
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\x7fELF" + bytes(100))
    assert finder.find((0, 1), str(garbage), "garbage") is None
    assert finder.find((0, 2), "/no/such/file", "gone") is None
