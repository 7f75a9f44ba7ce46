# SPDX-License-Identifier: Apache-2.0
"""Names and lines compared with nm and addr2line, before and after the exit of the process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.naming import frames_of

from kwatch.elf.elf import Elf
from kwatch.procfs.address_space import AddressSpace
from kwatch.procfs.mappings import Mapping, read_mappings
from kwatch.symbols.demangle.demangle import demangle
from kwatch.symbols.dwarf.libdw import Module
from kwatch.symbols.reader import Answer, Reader
from kwatch.symbols.symbolizer import Symbolizer

# Prints the two return addresses above spot(), then waits for its standard input.
SOURCE = """
#include <cstdio>
namespace shop {
struct Till {
    __attribute__((noinline)) void spot(int n) {
        std::printf("%p %p\\n", __builtin_return_address(0), __builtin_return_address(1));
        std::fflush(stdout);
        std::getchar();
    }
};
__attribute__((noinline)) void sell(Till *till, const char *what) {
    till->spot(what[0]);
    asm volatile("");
}
}
int main() {
    shop::Till till;
    shop::sell(&till, "tea");
    asm volatile("");
    return 0;
}
"""
KINDS = [["-pie", "-fPIE"], ["-no-pie"], ["-static"], ["-static-pie", "-fPIE"]]


def compile_cpp(folder: Path, *options: str, source: str = SOURCE) -> Path:
    (folder / "program.cc").write_text(source)
    path = folder / "program"
    flags = ["-g", "-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"]
    subprocess.run(["g++", *flags, *options, "-o", path, folder / "program.cc"], check=True)
    return path


@contextmanager
def running(path: Path) -> Iterator[tuple[int, list[int]]]:
    """The pid of the process and the return addresses that it printed."""
    pipe = subprocess.PIPE
    with subprocess.Popen([path], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield process.pid, [int(word, 16) for word in process.stdout.readline().split()]
        process.communicate("\n")


@pytest.fixture
def symbolizer() -> Iterator[Symbolizer]:
    symbolizer = Symbolizer()
    yield symbolizer
    symbolizer.close()


def addr2line(path: Path, vaddr: int) -> tuple[str, str]:
    command = ["addr2line", "-Cfe", path, hex(vaddr)]
    name, place = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split(
        "\n"
    )[:2]
    return name, place.partition(" (")[0]


@pytest.mark.parametrize("options", KINDS)
def test_return_addresses_agree_with_addr2line(
    tmp_path: Path, symbolizer: Symbolizer, options: list[str]
) -> None:
    path = compile_cpp(tmp_path, *options)
    with running(path) as (pid, addresses):
        space = AddressSpace(read_mappings(pid))
        frames = frames_of(symbolizer, pid, space, addresses)

    bases = [m.start - m.offset for m in map(space.find, addresses) if m]
    with Elf.open(str(path)) as elf:
        vaddrs = [elf.vaddr_of(a - base) for a, base in zip(addresses, bases, strict=True)]
    assert [f.address for f in frames] == addresses
    assert [f.symbol for f in frames] == ["shop::sell(shop::Till*, char const*)", "main"]
    assert {f.module for f in frames} == {str(path)}
    for frame, vaddr in zip(frames, vaddrs, strict=True):
        assert vaddr is not None
        assert (frame.symbol, f"{frame.file}:{frame.line}") == addr2line(path, vaddr - 1)
    assert [f.line for f in frames] == [SOURCE[: SOURCE.index(s)].count("\n") + 1 for s in CALLS]
    assert all(0 < f.offset < 100 for f in frames)


CALLS = ("till->spot", "shop::sell(&")


def test_a_stack_ends_at_the_first_address_outside_code(
    tmp_path: Path, symbolizer: Symbolizer
) -> None:
    with running(compile_cpp(tmp_path)) as (pid, addresses):
        space = AddressSpace(read_mappings(pid))
        garbage = [addresses[0], 0, addresses[1], (1 << 64) - 1]
        assert [f.address for f in frames_of(symbolizer, pid, space, garbage)] == addresses[:1]


def test_a_prefetched_file_outlives_its_process_and_its_name(
    tmp_path: Path, symbolizer: Symbolizer
) -> None:
    path = compile_cpp(tmp_path)
    with running(path) as (pid, addresses):
        space = AddressSpace(read_mappings(pid))
        code = space.find(addresses[0])
        assert code is not None
        symbolizer.prefetch(pid, code)
    path.unlink()

    frames = frames_of(symbolizer, pid, space, addresses)

    assert [f.symbol for f in frames] == ["shop::sell(shop::Till*, char const*)", "main"]
    fresh = Symbolizer()
    assert [f.symbol for f in frames_of(fresh, pid, space, addresses)] == ["", ""]
    fresh.close()


def test_no_more_frames_are_named_than_needed(tmp_path: Path) -> None:
    """Reading debug information takes most of the time."""
    asked: list[int] = []

    class Counting(Reader):
        def locate(
            self, number: int, fd: int, path: str, root: str, addresses: Sequence[int]
        ) -> Answer:
            asked.extend(addresses)
            return super().locate(number, fd, path, root, addresses)

    symbolizer = Symbolizer(reader=Counting())
    with running(compile_cpp(tmp_path)) as (pid, addresses):
        stack = symbolizer.stack(pid, AddressSpace(read_mappings(pid)), addresses)
        [(seller,)] = symbolizer.leading([stack], lambda frame: "sell" in frame.symbol)
        assert seller.line
        assert len(asked) == 1
        [(*_, main)] = symbolizer.leading([stack], lambda frame: frame.symbol == "main")
        assert main.symbol == "main"
        assert len(asked) == 2
        everything = [(seller, main)]
        assert symbolizer.leading([stack], lambda frame: frame.symbol == "nobody") == everything
        assert symbolizer.frames([stack]) == everything
        assert len(asked) == 2
    symbolizer.close()


def test_hurry_returns_what_is_known(tmp_path: Path, symbolizer: Symbolizer) -> None:
    with running(compile_cpp(tmp_path)) as (pid, addresses):
        stack = symbolizer.stack(pid, AddressSpace(read_mappings(pid)), addresses)
        symbolizer.leading([stack], lambda frame: True)
        symbolizer.hurry()
        [frames] = symbolizer.frames([stack])
        other = symbolizer.stack(pid, AddressSpace(read_mappings(pid)), addresses[1:])
        assert symbolizer.leading([stack, other], lambda frame: True) == [frames[:1], ()]
    assert [bool(frame.symbol) for frame in frames] == [True, False]
    assert [frame.address for frame in frames] == addresses


def test_code_that_cannot_be_read_has_no_name(tmp_path: Path, symbolizer: Symbolizer) -> None:
    text = tmp_path / "text"
    text.write_text("no program" * 1000)
    inode = text.stat().st_ino
    space = AddressSpace(
        [
            Mapping(0x1000, 0x2000, 0, str(text), inode, 1, True),
            Mapping(0x2000, 0x3000, 0, "/gone", 2, 1, True),
            Mapping(0x3000, 0x4000, 0, "[vdso]", 0, 0, True),
            Mapping(0x4000, 0x5000, 0, "", 0, 0, True),
        ]
    )
    frames = frames_of(symbolizer, os.getpid(), space, [0x1800, 0x2800, 0x3800, 0x4800])
    assert [(f.module, f.symbol, f.offset) for f in frames] == [
        (str(text), "", 0x800),
        ("/gone", "", 0x800),
        ("[vdso]", "", 0x800),
        ("", "", 0),
    ]


def test_evicted_files_are_closed_and_opened_again(tmp_path: Path) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    symbolizer = Symbolizer(files=1)
    libraries = [m for m in read_mappings(os.getpid()) if m.executable and m.inode]
    for mapping in libraries * 2:
        space = AddressSpace([mapping])
        assert (
            frames_of(symbolizer, os.getpid(), space, [mapping.start + 64])[0].module
            == mapping.path
        )
    symbolizer.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors


STRIPPED = """
extern "C" __attribute__((visibility("default"))) int exported(int x) { return x + 1; }
__attribute__((noinline)) static int secret(int x) { asm volatile(""); return x * 3; }
extern "C" int after(int x) { return secret(x); }
asm(".text; .globl label; label: nop; nop");
__attribute__((noinline)) static int hidden(int x) { asm volatile(""); return x * 5; }
extern "C" int last(int x) { return hidden(x); }
"""


def test_a_stripped_function_is_nameless_and_never_its_neighbor(tmp_path: Path) -> None:
    options = ("-shared", "-fPIC", "-fno-toplevel-reorder")
    path = compile_cpp(tmp_path, *options, source=STRIPPED)
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, path], check=True)
    names = ["exported", "_ZL6secreti", "after", "_ZL6hiddeni", "last"]
    with Elf.open(str(path)) as elf:
        functions = elf.functions(names)
    with Module.open(str(stripped)) as module:
        found = {name: module.symbol(f.vaddr + 2) for name, f in functions.items()}
    assert found == {
        "exported": ("exported", 2),
        "_ZL6secreti": None,
        "after": ("after", 2),
        "_ZL6hiddeni": None,
        "last": ("last", 2),
    }


def test_debug_information_is_found_in_a_separate_file(tmp_path: Path) -> None:
    path = compile_cpp(tmp_path)
    with Elf.open(str(path)) as elf:
        main = elf.functions(["main"])["main"]
    (tmp_path / ".debug").mkdir()
    debug = tmp_path / ".debug" / "program.debug"
    subprocess.run(["objcopy", "--only-keep-debug", path, debug], check=True)
    subprocess.run(["strip", path], check=True)
    subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", path], check=True)
    with Module.open(str(path)) as module:
        assert module.symbol(main.vaddr) == ("main", 0)
        assert module.source(main.vaddr) == (str(tmp_path / "program.cc"), main_line())


def main_line() -> int:
    return SOURCE[: SOURCE.index("int main")].count("\n") + 1


def test_lines_are_found_without_aranges(tmp_path: Path) -> None:
    """As clang writes debug information."""
    path = compile_cpp(tmp_path)
    with Elf.open(str(path)) as elf:
        main = elf.functions(["main"])["main"]
    subprocess.run(["objcopy", "--remove-section=.debug_aranges", path], check=True)
    with Module.open(str(path)) as module:
        assert module.source(main.vaddr) == (str(tmp_path / "program.cc"), main_line())
        assert module.source(main.vaddr + (1 << 40)) is None


def test_names_agree_with_cxxfilt() -> None:
    names = ["_ZNSt6vectorIiSaIiEE9push_backERKi", "_Znwm", "_ZN3fooC1Ev", "_Zx", "main", "_Z", ""]
    shown = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True)
    assert [demangle(name) for name in names] == shown.stdout.split("\n")[: len(names)]
