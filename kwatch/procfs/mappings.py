# SPDX-License-Identifier: Apache-2.0
"""The mappings of a process, and paths that open the mapped files."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from kwatch.errors import KwatchError
from kwatch.procfs.mounts import may_hang
from kwatch.procfs.served_files import ServedFile

#: The kernel appends this to the path of a file that has been unlinked.
DELETED = " (deleted)"
_ANONYMOUS = ("//anon", "[anon", "[heap", "[stack")
_LINE = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) (....) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)\n?"
)


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping. `path` is the name that the kernel shows, without ` (deleted)`.

    `inode` and `device` are 0 if no file is mapped.
    """

    start: int
    end: int
    offset: int
    path: str
    inode: int
    device: int
    executable: bool

    def may_be(self, status: os.stat_result) -> bool:
        """Whether the mapped file can be the one with this status.

        btrfs and overlayfs have other devices in stat() than in maps, without a major number.
        """
        is_same_device = status.st_dev == self.device or not os.major(status.st_dev)
        return status.st_ino == self.inode and is_same_device

    def part(self, start: int, end: int) -> Mapping:
        """What remains of the mapping when the rest of it is unmapped."""
        return replace(self, start=start, end=end, offset=self.offset + start - self.start)

    @property
    def is_generated(self) -> bool:
        """Whether its code is generated at run time: it is anonymous memory, or a memfd."""
        if self.inode:
            return self.path.startswith("/memfd:")
        return not self.path or self.path.startswith(_ANONYMOUS)


def read_mappings(pid: int) -> list[Mapping]:
    """All mappings of a process, by address; none if it has exited."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            return [parse_mapping(line) for line in file]
    except (FileNotFoundError, ProcessLookupError):
        return []
    except OSError as err:
        reason = f"cannot read the mappings of process {pid}: {err.strerror}"
        cure = "a policy forbids what CAP_SYS_PTRACE allows: run kwatch on the host"
        raise KwatchError(reason, "run kwatch as root" if os.geteuid() else cure) from err


class MapsLine(NamedTuple):
    """A line of /proc/PID/maps. `path` is as the kernel shows it."""

    start: int
    end: int
    permissions: str
    offset: int
    device: int
    inode: int
    path: str


def parse_line(line: bytes) -> MapsLine:
    """Parses a line of /proc/PID/maps. The kernel escapes only newlines: show_map_vma()."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"not a line of /proc/PID/maps: {line!r}")
    start, end, permissions, offset, major, minor, inode, path = match.groups()
    return MapsLine(
        int(start, 16),
        int(end, 16),
        permissions.decode(),
        int(offset, 16),
        os.makedev(int(major, 16), int(minor, 16)),
        int(inode),
        os.fsdecode(path.replace(rb"\012", b"\n")),
    )


def parse_mapping(line: bytes) -> Mapping:
    """Parses a line of /proc/PID/maps."""
    found = parse_line(line)
    return Mapping(
        start=found.start,
        end=found.end,
        offset=found.offset,
        path=found.path.removesuffix(DELETED),
        inode=found.inode,
        device=found.device,
        executable=found.permissions[2] == "x",
    )


def file_of(pid: int, mapping: Mapping) -> str:
    """A path that opens the mapped file now, even a deleted one or one in another mount namespace.

    Empty if there is none: no file is mapped, or the process has exited and its path leads kwatch
    to no such file.
    """
    return next(files_of(pid, mapping), "")


def files_of(pid: int, mapping: Mapping) -> Iterator[str]:
    """Every such path, the best first: some become invalid when the process exits.

    Of a file whose file system may not answer, the path of a copy.
    """
    if not mapping.inode:
        return
    served = served_file(pid, mapping)
    if served is not None:
        yield from filter(None, [served.copy().path])
        return
    if link := link_to(pid, mapping):
        yield link
    yield from paths_of(pid, mapping, is_foreign(pid))


def served_file(pid: int, mapping: Mapping) -> ServedFile | None:
    """The mapped file if its file system may not answer, else None."""
    if not mapping.inode or not may_hang(pid, mapping.device, mapping.path):
        return None
    link = f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"
    paths = (link, f"/proc/{pid}/root{mapping.path}")
    return ServedFile((mapping.device, mapping.inode, mapping.path), paths)


def link_to(pid: int, mapping: Mapping) -> str:
    """The link of the kernel to the mapped file; empty if the mapping has changed.

    Anyone may read the link, but opening it takes a capability: proc_map_files_get_link().
    """
    link = f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"
    try:
        status, name = os.stat(link), os.readlink(link)
    except OSError:
        return ""
    is_other = status.st_dev == mapping.device and status.st_ino != mapping.inode
    return "" if is_other or name.removesuffix(DELETED) != mapping.path else link


def paths_of(pid: int, mapping: Mapping, foreign: bool | None) -> Iterator[str]:
    """Paths of the mapped file, as seen by the process and then as seen by kwatch.

    `foreign`: the process is in another mount namespace, so kwatch sees other files.
    """
    paths = (f"/proc/{pid}/root{mapping.path}", mapping.path)
    return leading_to(mapping, paths[:1] if foreign else paths)


def leading_to(mapping: Mapping, paths: Iterable[str]) -> Iterator[str]:
    """The paths that may lead to the mapped file."""
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            if mapping.may_be(os.stat(path)):
                yield path


def is_foreign(pid: int) -> bool | None:
    """Whether a process is in another mount namespace than kwatch; None if it has exited."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino != os.stat("/proc/self/ns/mnt").st_ino
    except OSError:
        return None


def file_version(path: str) -> tuple[int, int, int]:
    """The size of a file, and its modification and inode change times in nanoseconds.

    It differs for a file that replaced another one, or that got its inode later. Raises OSError.
    """
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
