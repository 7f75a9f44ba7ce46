# SPDX-License-Identifier: Apache-2.0
"""What a process has mapped, and a path by which the mapped file itself can be opened."""

from __future__ import annotations

import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kwatch.errors import KwatchError

#: What the kernel puts behind the path of a file that has been unlinked.
DELETED = " (deleted)"
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


def read_mappings(pid: int) -> list[Mapping]:
    """All mappings of a process, by address; none if it is gone."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            return [parse_mapping(line) for line in file]
    except (FileNotFoundError, ProcessLookupError):
        return []
    except OSError as err:
        reason = f"cannot read the mappings of process {pid}: {err.strerror}"
        raise KwatchError(reason, "run kwatch as root") from err


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
    if not mapping.inode:
        return ""
    link = f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"
    if _is_link_to(link, mapping.path):
        return link
    for path in (f"/proc/{pid}/root{mapping.path}", mapping.path):
        if _has_inode(path, mapping.inode):
            return path
    return ""


def file_version(path: str) -> tuple[int, int, int]:
    """Tells a file from one that was written in its place, or got its inode later: raises OSError.

    Its size, and when it and its inode were changed, in nanoseconds.
    """
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_link_to(link: str, path: str) -> bool:
    """Names are compared, because overlayfs shows different inodes in maps and by stat().

    Anyone may read the link; following it takes a capability, see proc_map_files_get_link().
    """
    try:
        os.stat(link)
        return os.readlink(link).removesuffix(DELETED) == path
    except OSError:
        return False


def _has_inode(path: str, inode: int) -> bool:
    try:
        return os.stat(path).st_ino == inode
    except (OSError, ValueError):
        return False


class AddressSpace:
    """The executable mappings of one process, none overlapping another."""

    def __init__(self, mappings: list[Mapping] | None = None) -> None:
        self._mappings: list[Mapping] = []
        self._starts: list[int] = []
        for mapping in mappings or []:
            self.add(mapping)

    def __len__(self) -> int:
        return len(self._mappings)

    def __iter__(self) -> Iterator[Mapping]:
        """By address."""
        return iter(self._mappings)

    def add(self, mapping: Mapping) -> bool:
        """Maps over what was there, as mmap() does; only executable mappings are kept.

        Whether other code than the mapping's own lay there.
        """
        identity = _identity(mapping)
        first = max(bisect_right(self._starts, mapping.start) - 1, 0)
        touched = self._mappings[first : bisect_left(self._starts, mapping.end)]
        covers = any(m.end > mapping.start and _identity(m) != identity for m in touched)
        self._replace(mapping.start, mapping.end, [mapping] if mapping.executable else [])
        return covers

    def remove(self, start: int, end: int) -> None:
        """Unmaps a range, as munmap() does."""
        self._replace(start, end, [])

    def find(self, address: int) -> Mapping | None:
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._mappings[index].end:
            return self._mappings[index]
        return None

    def copy(self) -> AddressSpace:
        other = AddressSpace()
        other._mappings = self._mappings.copy()
        other._starts = self._starts.copy()
        return other

    def clear(self) -> None:
        self._mappings.clear()
        self._starts.clear()

    def _replace(self, start: int, end: int, new: list[Mapping]) -> None:
        if start >= end:
            return
        first = max(bisect_right(self._starts, start) - 1, 0)
        last = bisect_left(self._starts, end)
        touched = self._mappings[first:last]
        before = [part for old in touched for part in _part(old, old.start, min(old.end, start))]
        after = [part for old in touched for part in _part(old, max(old.start, end), old.end)]
        self._mappings[first:last] = kept = [*before, *new, *after]
        self._starts[first:last] = [mapping.start for mapping in kept]


def _identity(mapping: Mapping) -> tuple[int, int, str, int]:
    """Equal for mappings that put the same bytes at the same addresses."""
    return mapping.device, mapping.inode, mapping.path, mapping.start - mapping.offset


def _part(mapping: Mapping, start: int, end: int) -> list[Mapping]:
    if start >= end:
        return []
    offset = mapping.offset + start - mapping.start
    return [replace(mapping, start=start, end=end, offset=offset)]
