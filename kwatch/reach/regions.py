# SPDX-License-Identifier: Apache-2.0
"""The mappings of a process, as what they mean for its heap."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kwatch.procfs.mappings import parse_line

#: Memory of the kernel, which holds no pointers of the program.
_OF_THE_KERNEL = ("[vvar", "[vdso", "[vsyscall", "[uprobes")
#: Files under /dev that are plain memory. Reading others can have effects on a device.
_MEMORY_DEVICES = ("/dev/zero", "/dev/shm/")


@dataclass(frozen=True, slots=True)
class Region:
    """One mapping. `permissions` as in /proc/PID/maps, such as `rw-p`; `inode` is 0 if no file is
    mapped."""

    start: int
    end: int
    permissions: str
    inode: int
    path: str

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def is_writable(self) -> bool:
        return self.permissions[1] == "w"

    @property
    def is_shared(self) -> bool:
        return self.permissions[3] == "s"

    @property
    def is_device(self) -> bool:
        return self.path.startswith("/dev/") and not self.path.startswith(_MEMORY_DEVICES)

    @property
    def is_generated_code(self) -> bool:
        """Whether code that was generated at run time is there: in no file, or in a memfd."""
        in_no_file = not self.inode or self.path.startswith("/memfd:")
        return self.permissions[2] == "x" and in_no_file and not self._is_of_the_kernel

    @property
    def may_hold_pointers(self) -> bool:
        """Whether a pointer of the program can be there.

        A program can write data and then protect it, so private memory counts with any permissions:
        only its modified pages are read. Code of files does not count, nor does shared memory that
        the process cannot write.
        """
        if self._is_of_the_kernel or self.is_device:
            return False
        if self.is_writable or self.is_generated_code:
            return True
        return not self.is_shared and self.permissions[2] != "x"

    @property
    def _is_of_the_kernel(self) -> bool:
        return self.path.startswith(_OF_THE_KERNEL)


def read_regions(pid: int) -> list[Region]:
    """The mappings of a process, by address; none if it has ended.

    After its main thread has ended, only the other threads still show them.
    """
    for path in _maps_files(pid):
        try:
            with open(path, "rb") as file:
                regions = list(parse_regions(file))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if regions:
            return regions
    return []


def _maps_files(pid: int) -> Iterator[str]:
    yield f"/proc/{pid}/maps"
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return
    yield from (f"/proc/{pid}/task/{tid}/maps" for tid in threads)


def parse_regions(lines: Iterable[bytes]) -> Iterator[Region]:
    """Parses the lines of /proc/PID/maps."""
    for line in lines:
        found = parse_line(line)
        yield Region(found.start, found.end, found.permissions, found.inode, found.path)
