# SPDX-License-Identifier: Apache-2.0
"""What a process has mapped, and a path by which the mapped file itself can be opened."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from kwatch.errors import KwatchError

#: What the kernel puts behind the path of a file that has been unlinked.
DELETED = " (deleted)"
_ANONYMOUS = ("//anon", "[anon", "[heap", "[stack")
_LINE = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) ..(.). ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)\n?"
)


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping; `path` is as the kernel names it, without the mark of a deleted file.

    `inode` and `device` are 0 where no file is mapped.
    """

    start: int
    end: int
    offset: int
    path: str
    inode: int
    device: int
    executable: bool
    deleted: bool

    def may_be(self, status: os.stat_result) -> bool:
        """Whether the mapped file can be the one of this status.

        By stat(), btrfs and overlayfs show other devices than in maps; these have no major number.
        """
        is_there = status.st_dev == self.device or not os.major(status.st_dev)
        return status.st_ino == self.inode and is_there

    def part(self, start: int, end: int) -> Mapping:
        """What is left of the mapping when the rest of it is unmapped."""
        return replace(self, start=start, end=end, offset=self.offset + start - self.start)

    @property
    def is_generated(self) -> bool:
        """Whether the program itself generates what is there: anonymous memory or a memfd."""
        if self.inode:
            return self.path.startswith("/memfd:")
        return not self.path or self.path.startswith(_ANONYMOUS)


def read_mappings(pid: int) -> list[Mapping]:
    """All mappings of a process, by address; none if it is gone."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            return [parse_mapping(line) for line in file]
    except (FileNotFoundError, ProcessLookupError):
        return []
    except OSError as err:
        reason = f"cannot read the mappings of process {pid}: {err.strerror}"
        cure = "a policy forbids what CAP_SYS_PTRACE allows: run kwatch on the host"
        raise KwatchError(reason, "run kwatch as root" if os.geteuid() else cure) from err


def parse_mapping(line: bytes) -> Mapping:
    """One line of /proc/PID/maps. The kernel escapes nothing but newlines (show_map_vma())."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"not a line of /proc/PID/maps: {line!r}")
    start, end, execute, offset, major, minor, inode, raw = match.groups()
    path = os.fsdecode(raw.replace(rb"\012", b"\n"))
    return Mapping(
        start=int(start, 16),
        end=int(end, 16),
        offset=int(offset, 16),
        path=path.removesuffix(DELETED),
        inode=int(inode),
        device=os.makedev(int(major, 16), int(minor, 16)),
        executable=execute == b"x",
        deleted=path.endswith(DELETED),
    )


def file_of(pid: int, mapping: Mapping) -> str:
    """A path that opens the mapped file now, also a deleted one or one of another mount namespace.

    Empty if there is none: no file is mapped, or the process is gone and its path is not ours.
    """
    return next(files_of(pid, mapping), "")


def files_of(pid: int, mapping: Mapping) -> Iterator[str]:
    """Every such path, the best first: one may be gone with the process when it is used."""
    if not mapping.inode:
        return
    if link := link_to(pid, mapping):
        yield link
    yield from paths_of(pid, mapping, is_foreign(pid))


def link_to(pid: int, mapping: Mapping) -> str:
    """The kernel's own link to the mapped file, while the mapping is as it was; else empty.

    Anyone may read the link; following it takes a capability, see proc_map_files_get_link().
    """
    link = f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"
    try:
        status, name = os.stat(link), os.readlink(link)
    except OSError:
        return ""
    is_other = status.st_dev == mapping.device and status.st_ino != mapping.inode
    return "" if is_other or name.removesuffix(DELETED) != mapping.path else link


def paths_of(pid: int, mapping: Mapping, foreign: bool | None) -> Iterator[str]:
    """Paths that may lead to the mapped file, as the process and as we see it.

    `foreign`: it is of another mount namespace, and our files are none of its.
    """
    paths = (f"/proc/{pid}/root{mapping.path}", mapping.path)
    return leading_to(mapping, paths[:1] if foreign else paths)


def leading_to(mapping: Mapping, paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            if mapping.may_be(os.stat(path)):
                yield path


def is_foreign(pid: int) -> bool | None:
    """Whether a process sees other file systems than we do; None if it is gone."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino != os.stat("/proc/self/ns/mnt").st_ino
    except OSError:
        return None


def file_version(path: str) -> tuple[int, int, int]:
    """Tells a file from one that was written in its place, or got its inode later: raises OSError.

    Its size, and when it and its inode were changed, in nanoseconds.
    """
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
