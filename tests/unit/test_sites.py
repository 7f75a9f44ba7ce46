# SPDX-License-Identifier: Apache-2.0
"""Probe sites on code with known answers."""

from __future__ import annotations

import platform
import subprocess

import pytest

from kwatch.elf.elf import Elf
from kwatch.probes.exits import Exit, ExitFinder
from kwatch.probes.finder import AllocatorFinder
from kwatch.probes.sites import Site, find_site

on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 instructions")

RAX, RSI = 10, 13  # the words of struct pt_regs
CODE = {
    # name: (assembly, offset to probe with one argument, and where the argument is there if moved)
    "at_push": ("push %rbp\n pop %rbp\n ret", 0),
    "behind_test": ("test %rdi, %rdi\n je 1f\n nop\n1: ret", 3),
    "behind_endbr": ("endbr64\n push %rbx\n pop %rbx\n ret", 4),
    "argument_written": ("mov %rsi, %rdi\n push %rbx\n pop %rbx\n ret", 0),
    "part_of_argument_written": ("xor %edi, %edi\n nop\n ret", 0),
    "stack_moved": ("sub $8, %rsp\n nop\n add $8, %rsp\n ret", 0),
    "entered_between": ("mov %rdi, %rax\n1: dec %rax\n jne 1b\n ret", 0),
    "nothing_emulated": ("mov %rdi, %rax\n ret", 0),
    "moved": ("mov %rdi, %rsi\n mov %fs:0, %rdi\n cmp $8, %rsi\n ja 1f\n1: ret", 16, RSI),
    "moved_twice": (
        "mov %rdi, %rsi\n mov %rsi, %rax\n xor %edi, %edi\n xor %si, %si\n nop",
        11,
        RAX,
    ),
    "moved_in_part": ("mov %edi, %esi\n xor %edi, %edi\n nop\n ret", 0),
    "moved_and_lost": ("mov %rdi, %rsi\n xor %edi, %edi\n mov $1, %sil\n nop\n ret", 0),
}


ARM_CODE = {
    "at_cbz": ("cbz x0, 1f\n mov x1, x0\n1: ret", 0),
    "behind_bti": ("hint 34 // bti c\n adrp x3, .\n ret", 4),
    "stack_moved": ("stp x29, x30, [sp, #-16]!\n cbz x0, 1f\n nop\n1: ret", 0),
    # A return probe behind it would put an unsigned address in the place of a signed one.
    "signed": ("hint 25 // paciasp\n adrp x3, .\n hint 29\n ret", 0),
    "argument_written": ("mov x0, x1\n cbz x1, 1f\n1: ret", 0),
    "moved": ("mov x19, x0\n mov x0, 1\n cbz x19, 1f\n1: ret", 8, 19),
}


def expected(code):
    _, offset, *moved = code
    return Site(offset, tuple((0, word) for word in moved))


def build(compiler, directory, code, rest):
    """A shared library with the functions of `code`."""
    lines = [".text"]
    for name, (assembly, *_) in code.items():
        lines.append(f".globl {name}\n.type {name}, %function\n{name}:\n {assembly}")
        lines.append(f".size {name}, . - {name}")
    source, library = directory / "code.S", directory / "code.so"
    source.write_text("\n".join([*lines, rest]) + "\n.section .note.GNU-stack\n")
    subprocess.run([compiler, "-shared", "-nostdlib", "-o", library, source], check=True)
    return str(library)


@pytest.fixture(scope="module")
def elf(tmp_path_factory):
    rest = (
        ".globl two_exits\n.type two_exits, @function\ntwo_exits:\n test %rdi, %rdi\n jne elsewhere"
        "\n ret\n.size two_exits, . - two_exits\nelsewhere:\n nop\n ret\n"
        ".globl throws\n.type throws, @function\nthrows:\n.cfi_startproc\n test %rdi, %rdi\n"
        " js 1f\n ret\n1: call abort@plt\n.cfi_endproc\n.size throws, . - throws\n"
        ".globl lost\n.type lost, @function\nlost:\n.cfi_startproc\n jmp *%rax\n.cfi_endproc\n"
        ".size lost, . - lost\n"
        ".globl clears\n.type clears, @function\nclears:\n.cfi_startproc\n test %rdi, %rdi\n"
        " jne 1f\n ret\n1: jmp memset@plt\n.cfi_endproc\n.size clears, . - clears\n"
    )
    with Elf.open(build("gcc", tmp_path_factory.mktemp("sites"), CODE, rest)) as opened:
        yield opened


@pytest.fixture(scope="module")
def arm_elf(tmp_path_factory):
    """`tail` goes on to another function by way of the linkage table."""
    rest = ".globl tail\n.type tail, %function\ntail: b at_cbz\n.size tail, . - tail\n"
    compiler = "aarch64-linux-gnu-gcc"
    with Elf.open(build(compiler, tmp_path_factory.mktemp("arm"), ARM_CODE, rest)) as opened:
        yield opened


@pytest.mark.needs("arm64-gcc")
@pytest.mark.parametrize("name", ARM_CODE)
def test_arm64_site(arm_elf, name):
    function = arm_elf.functions([name])[name]
    assert find_site(arm_elf, function, (0,), may_move=True) == expected(ARM_CODE[name])


@pytest.mark.needs("arm64-gcc")
def test_arm64_exits_are_followed_through_the_linkage_table(arm_elf):
    functions = arm_elf.functions(["tail", "at_cbz"])
    end = functions["at_cbz"].offset + functions["at_cbz"].size
    assert ExitFinder(arm_elf).exits(functions["tail"]) == (Exit(end - 4),)


@on_x86
@pytest.mark.parametrize("name", CODE)
def test_site(elf, name):
    function = elf.functions([name])[name]
    assert find_site(elf, function, (0,), may_move=True) == expected(CODE[name])
    fixed = find_site(elf, function, (0,), may_move=False)
    assert fixed == (Site(0) if len(CODE[name]) > 2 else expected(CODE[name]))


@on_x86
def test_exits_are_followed_through_jumps(elf):
    functions = elf.functions(["two_exits", "lost"])
    exits = ExitFinder(elf).exits(functions["two_exits"])
    assert len(exits) == 2
    assert all(elf.read(elf.vaddr_of(each.offset), 1) == b"\xc3" for each in exits)
    assert ExitFinder(elf).exits(functions["lost"]) is None


@on_x86
def test_a_call_that_never_returns_is_no_way_out(elf):
    """Behind the call is another function, which jumps to where nobody knows."""
    functions = elf.functions(["throws", "clears"])
    (only,) = ExitFinder(elf).exits(functions["throws"])
    assert not only.result_in_argument


@on_x86
def test_a_jump_to_memset_is_an_exit(elf):
    exits = ExitFinder(elf).exits(elf.functions(["clears"])["clears"])
    assert [each.result_in_argument for each in exits] == [False, True]
    assert elf.read(elf.vaddr_of(exits[1].offset), 1) == b"\xe9"


def test_a_file_without_an_allocator_and_one_that_is_no_program(tmp_path):
    finder = AllocatorFinder()
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\x7fELF" + bytes(100))
    assert finder.find((0, 1), str(garbage), "garbage") is None
    assert finder.find((0, 2), "/no/such/file", "gone") is None
