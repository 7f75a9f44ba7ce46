# SPDX-License-Identifier: Apache-2.0
"""Mappings as the kernel lists them, and address spaces as mmap() and munmap() change them."""

from __future__ import annotations

import mmap
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.procfs.address_space import AddressSpace
from kwatch.procfs.mappings import Mapping, file_of, parse_mapping, read_mappings
from kwatch.symbols.mapped_files import MappedFiles


def code(start: int, end: int, offset: int = 0, executable: bool = True) -> Mapping:
    return Mapping(start, end, offset, "/bin/x", 7, 1, executable)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            b"55d0-66d0 r-xp 00002000 fe:01 260386                     /usr/bin/a b (deleted)\n",
            Mapping(0x55D0, 0x66D0, 0x2000, "/usr/bin/a b", 260386, 0xFE01, True),
        ),
        (b"1000-2000 rw-p 00000000 00:00 0 \n", Mapping(0x1000, 0x2000, 0, "", 0, 0, False)),
        (
            b"1000-2000 r-xp 00000000 00:00 0                          [vdso]\n",
            Mapping(0x1000, 0x2000, 0, "[vdso]", 0, 0, True),
        ),
        (
            rb"1000-2000 r--s 00000000 00:05 3   /new\012line\040\xff" + b"\xff\n",
            Mapping(0x1000, 0x2000, 0, "/new\nline\\040\\xff\udcff", 3, 5, False),
        ),
    ],
)
def test_a_line_of_proc_maps(line: bytes, expected: Mapping) -> None:
    assert parse_mapping(line) == expected


def test_own_code_is_found_in_its_file() -> None:
    address = next(m.start for m in read_mappings(os.getpid()) if "/libc.so" in m.path)
    space = AddressSpace(read_mappings(os.getpid()))
    assert space.find(address) is None  # the headers, which are not executable

    libc = next(m for m in read_mappings(os.getpid()) if "/libc.so" in m.path and m.executable)
    assert space.find(libc.start) == space.find(libc.end - 1) == libc
    assert os.stat(libc.path).st_ino == libc.inode


def test_a_process_that_has_exited_has_no_mappings() -> None:
    assert read_mappings(1 << 30) == []


@pytest.mark.parametrize("name", ["plain", "with space", "new\nline", "odd (deleted)x"])
@pytest.mark.parametrize("deleted", [False, True])
def test_the_mapped_file_itself_is_opened(tmp_path: Path, name: str, deleted: bool) -> None:
    path = tmp_path / name
    path.write_bytes(b"first" * 1000)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        if deleted:
            path.unlink()
            path.write_bytes(b"second" * 1000)
        mapping = next(m for m in read_mappings(os.getpid()) if m.path == str(path))
        found = file_of(os.getpid(), mapping)
        if deleted and not found:
            pytest.skip("a deleted file needs /proc/PID/map_files, which needs CAP_SYS_ADMIN")
        assert Path(found).read_bytes() == b"first" * 1000
    assert file_of(1 << 30, mapping) == ("" if deleted else str(path))


def status_of(inode: int, device: int) -> os.stat_result:
    return os.stat_result((0o100644, inode, device, *range(7)))


@pytest.mark.parametrize(
    ("inode", "device", "expected"),
    [
        (7, os.makedev(8, 1), True),
        (8, os.makedev(8, 1), False),
        (7, os.makedev(8, 2), False),  # another disk has the same inode numbers
        (7, os.makedev(0, 45), True),  # btrfs: each subvolume has a device that maps do not show
    ],
)
def test_a_file_has_the_inode_and_the_device(inode: int, device: int, expected: bool) -> None:
    mapping = Mapping(0x1000, 0x2000, 0, "/bin/x", 7, os.makedev(8, 1), True)
    assert mapping.may_be(status_of(inode, device)) == expected


@pytest.mark.needs("root")
def test_files_of_kwatch_are_not_used_for_another_mount_namespace(tmp_path: Path) -> None:
    """There a mount hides the directory, and the hidden file has the same inode by chance."""
    path = tmp_path / "place" / "library"
    path.parent.mkdir()
    path.write_bytes(b"ours")
    status = path.stat()
    mapping = Mapping(0x1000, 0x2000, 0, str(path), status.st_ino, status.st_dev, True)
    script = f"mount -t tmpfs none {path.parent} && echo && exec cat"
    command = ["unshare", "--mount", "sh", "-c", script]
    assert file_of(os.getpid(), mapping) == f"/proc/{os.getpid()}/root{path}"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert file_of(process.pid, mapping) == ""
        assert MappedFiles().open(process.pid, mapping) is None
        process.kill()


def test_no_file_is_mapped() -> None:
    assert file_of(os.getpid(), Mapping(0x1000, 0x2000, 0, "[vdso]", 0, 0, True)) == ""


def test_a_mapping_in_the_middle_splits_the_old_one() -> None:
    space = AddressSpace([code(0x1000, 0x9000, offset=0x5000)])
    space.add(code(0x3000, 0x4000, executable=False))
    assert space.find(0x2FFF) == code(0x1000, 0x3000, offset=0x5000)
    assert space.find(0x3000) is None
    assert space.find(0x4000) == code(0x4000, 0x9000, offset=0x8000)


def test_a_copy_is_independent() -> None:
    parent = AddressSpace([code(0x1000, 0x2000)])
    child = parent.copy()
    parent.clear()
    child.add(code(0x3000, 0x4000))
    assert (len(parent), len(child)) == (0, 2)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8), st.sampled_from(["x", "-", "unmap"])))
)
def test_it_agrees_with_a_map_of_single_addresses(operations: list[tuple[int, int, str]]) -> None:
    space, model = AddressSpace(), dict[int, int]()
    for number, (start, size, operation) in enumerate(operations):
        addresses = range(start, start + size)
        for address in addresses:
            model.pop(address, None)
        if operation == "x":
            model.update((address, 1000 * number + address) for address in addresses)
        if operation == "unmap":
            space.remove(start, start + size)
        else:
            offset = 1000 * number + start
            space.add(code(start, start + size, offset, executable=operation == "x"))
    for address in range(40):
        mapping = space.find(address)
        found = mapping and mapping.offset + address - mapping.start
        assert found == model.get(address)
