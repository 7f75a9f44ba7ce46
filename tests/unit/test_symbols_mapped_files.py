# SPDX-License-Identifier: Apache-2.0
"""Opens the mapped file or none: replaced, deleted, in another mount namespace, the vdso."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from harness.compiled import CHAIN, INLINED, compile_c, run, waiting
from harness.naming import frames_of

from kwatch.elf.elf import Elf
from kwatch.model.frame import Frame
from kwatch.procfs.address_space import AddressSpace
from kwatch.procfs.mappings import Mapping, read_mappings
from kwatch.symbols import mapped_files
from kwatch.symbols.demangle.demangle import demangle
from kwatch.symbols.mapped_files import MappedFiles, mapped_build_id
from kwatch.symbols.symbolizer import Symbolizer

OTHER = INLINED.replace("inner", "wrong").replace("middle", "worse").replace("outer", "worst")


@pytest.fixture
def symbolizer() -> Iterator[Symbolizer]:
    symbolizer = Symbolizer()
    yield symbolizer
    symbolizer.close()


def names(frames: tuple[Frame, ...]) -> list[str]:
    return [frame.symbol for frame in frames]


def code_at(pid: int, address: int) -> Mapping:
    mapping = AddressSpace(read_mappings(pid)).find(address)
    assert mapping is not None
    return mapping


def test_inlined_functions_are_frames_of_their_own(tmp_path: Path, symbolizer: Symbolizer) -> None:
    path = compile_c(tmp_path / "program")
    with waiting(path) as (pid, addresses):
        frames = frames_of(symbolizer, pid, AddressSpace(read_mappings(pid)), addresses)
    assert names(frames) == CHAIN
    assert [frame.inlined for frame in frames] == [True, True, False]
    assert {frame.address for frame in frames} == set(addresses)
    assert len({frame.offset for frame in frames}) == 1
    usage = symbolizer.usage()
    assert usage.files == 1
    assert usage.frame_bytes > 0
    assert usage.reader_bytes > 1 << 20


def test_a_replaced_program_keeps_its_names(tmp_path: Path, symbolizer: Symbolizer) -> None:
    path = compile_c(tmp_path / "program")
    other = compile_c(tmp_path / "other", source=OTHER)
    with waiting(path) as (pid, addresses):
        other.rename(path)
        frames = frames_of(symbolizer, pid, AddressSpace(read_mappings(pid)), addresses)
    assert names(frames) == CHAIN


def test_code_of_an_overwritten_file_has_no_names(tmp_path: Path, symbolizer: Symbolizer) -> None:
    """Inode and path stay the same, and names are asked for after the file has changed."""
    path = compile_c(tmp_path / "program")
    other = compile_c(tmp_path / "other", source=OTHER)
    stacks = []
    for source in (path, other):
        path.write_bytes(source.read_bytes())
        with waiting(path) as (pid, addresses):
            space = AddressSpace(read_mappings(pid))
            symbolizer.prefetch(pid, code_at(pid, addresses[0]))
            stacks.append(symbolizer.stack(pid, space, addresses))
    before, after = symbolizer.frames(stacks)
    assert set(names(before)) == {""}
    assert all(names(after))


def test_another_file_with_the_same_inode_is_refused(tmp_path: Path) -> None:
    """The inode number of a deleted file may be reused: the build-id tells them apart."""
    path = compile_c(tmp_path / "program")
    other = compile_c(tmp_path / "other", source=OTHER)
    with waiting(path) as (pid, addresses):
        real = code_at(pid, addresses[0])
        with Elf.open(str(path)) as elf:
            assert mapped_build_id(pid, real) == elf.build_id
        opener = MappedFiles()
        elf = opener.open(pid, real)
        assert elf is not None
        elf.close()
        other.write_bytes(other.read_bytes() + b"\0")  # younger than kwatch
        fields = {name: getattr(real, name) for name in Mapping.__slots__}
        lying = Mapping(**fields | {"inode": other.stat().st_ino, "path": str(other)})
        assert opener.open(pid, lying) is None


@pytest.mark.needs("root")
def test_all_mappings_are_read_only_if_the_mapping_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process may have hundreds of libraries, and kwatch opens each of them."""
    own = os.getpid()
    libc = next(m for m in read_mappings(own) if "/libc.so" in m.path and m.executable)
    looks: list[int] = []
    monkeypatch.setattr(
        mapped_files, "read_mappings", lambda pid: looks.append(pid) or read_mappings(pid)
    )
    for mapping, expected in ((libc, []), (replace(libc, end=libc.end - 4096), [own])):
        elf = MappedFiles().open(own, mapping)
        assert elf is not None
        elf.close()
        assert looks == expected


@pytest.mark.needs("root")
def test_a_program_of_another_mount_namespace_is_found(
    tmp_path: Path, symbolizer: Symbolizer
) -> None:
    """Only the process sees its file system; kwatch sees another file by the same name."""
    path = compile_c(tmp_path / "program")
    (tmp_path / "place").mkdir()
    compile_c(tmp_path / "place" / "program", source=OTHER)
    mount = (
        f"mount -t tmpfs none {tmp_path}/place && cp {path} {tmp_path}/place/program"
        f" && exec {tmp_path}/place/program"
    )
    with waiting("unshare", "--mount", "sh", "-c", mount) as (pid, addresses):
        frames = frames_of(symbolizer, pid, AddressSpace(read_mappings(pid)), addresses)
    assert names(frames) == CHAIN
    assert {frame.module for frame in frames} == {f"{tmp_path}/place/program"}


def test_the_vdso_has_names(symbolizer: Symbolizer) -> None:
    [vdso] = [m for m in read_mappings(os.getpid()) if m.path == "[vdso]"]
    elf = MappedFiles().open(os.getpid(), vdso)
    assert elf is not None
    with elf:
        wanted = ["__vdso_clock_gettime", "__kernel_clock_gettime"]
        [(name, function)] = elf.functions(wanted).items()
    address = vdso.start + function.offset + 3
    [frame] = frames_of(symbolizer, os.getpid(), AddressSpace([vdso]), [address])
    assert (frame.symbol.removeprefix("__vdso_"), frame.module, frame.offset) == (
        name.removeprefix("__vdso_"),
        "[vdso]",
        3,
    )


SIGNAL = """
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
static void handler(int number) {
    void *frames[16];
    int count = backtrace(frames, 16);
    for (int i = 1; i < count; i++) printf("%p ", frames[i]);
    printf("\\n");
    fflush(stdout);
    getchar();
}
__attribute__((naked, noinline)) void trap(void) { __asm__("ud2"); }
int main(void) { signal(SIGILL, handler); trap(); return 0; }
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="ud2 is an instruction of x86-64")
def test_an_interrupted_function_is_looked_up_where_it_was_interrupted(
    tmp_path: Path, symbolizer: Symbolizer
) -> None:
    """At its first byte: the byte before belongs to another function."""
    path = compile_c(tmp_path / "program", source=SIGNAL)
    with waiting(path) as (pid, addresses):
        frames = frames_of(symbolizer, pid, AddressSpace(read_mappings(pid)), addresses)
    assert ("trap", 0) in [(frame.symbol, frame.offset) for frame in frames]
    assert "main" in names(frames)


RUST = """
use std::collections::HashMap;
mod ñ { pub struct Ünï; impl Ünï { #[inline(never)] pub fn méthode(&self, a: [u8; 3]) -> usize {
    a.iter().map(|x| *x as usize).sum() } } }
#[inline(never)]
fn generic<T: std::fmt::Debug, F: for<'a> Fn(&'a T) -> &'a T>(t: T, f: F) -> String {
    format!("{:?}", f(&t)) }
fn main() {
    let mut m: HashMap<String, Vec<u8>> = HashMap::new();
    m.insert(generic(3u8, |x| x), vec![1]);
    println!("{} {}", m.len(), ñ::Ünï.méthode([1, 2, 3]));
}
"""


@pytest.mark.needs("rustc")
@pytest.mark.parametrize("scheme", ["v0", "legacy"])
def test_rust_names_agree_with_cxxfilt(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "program.rs").write_text(RUST)
    flags = ["-O", "-C", f"symbol-mangling-version={scheme}", "-Z", "unstable-options"]
    command = ["rustc", *flags, "-o", tmp_path / "program", tmp_path / "program.rs"]
    # in newer compilers the legacy scheme is an unstable option
    environment = os.environ | {"RUSTC_BOOTSTRAP": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    symbols = {line.split()[-1] for line in run("nm", tmp_path / "program").splitlines()}
    mangled = sorted(s for s in symbols if s.startswith("_R") or "17h" in s)
    mangled = [name for name in mangled if "." not in name]
    shown = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True)
    assert len(mangled) > 100
    expected = map(without_hashes, shown.stdout.split("\n"))
    assert {name: demangle(name) for name in mangled} == dict(zip(mangled, expected, strict=False))


def without_hashes(name: str) -> str:
    name = re.sub(r"(?<=\w)\[[0-9a-f]{1,16}\]|::h[0-9a-f]{16}$", "", name)
    return re.sub(r"(?<=\d): [iu](?:8|16|32|64|size)|(?<=\d)[iu](?:8|16|32|64|size)\b", "", name)
