# SPDX-License-Identifier: Apache-2.0
"""Finds the thread to which thread-local memory belongs, by the thread pointers of a process.

That memory is the static TLS (ELF Handling For Thread-Local Storage, section 3.4) and the thread
descriptor of the C library. Variables of libraries that were loaded later can be in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property

import numpy as np

from kwatch.elf.elf import ElfError
from kwatch.errors import KwatchError
from kwatch.kernel.syscall import machine
from kwatch.kernel.task_iterator import Member, member_offsets, read_tasks
from kwatch.procfs.mappings import Mapping, read_mappings
from kwatch.symbols.mapped_files import MappedFiles

#: Where the kernel has the thread pointer of a thread that does not run, in task_struct.
_POINTER = {"x86_64": "thread.fsbase", "aarch64": "thread.uw.tp_value"}
_PT_TLS = 7
#: glibc's struct pthread has 2,304 bytes in 2.31 and 2.36, and some more since; musl's has 200.
_DESCRIPTOR = 2560
_TCB_HEAD = 16  # on aarch64, in front of the variables


class ThreadLocals:
    """Of one process, as it is now."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def thread_at(self, address: int) -> int:
        """The thread in whose thread-local memory this address is; 0 if it is in none."""
        owners = self._owners
        if not owners:
            return 0
        below, above = self._extent
        found = (tid for tid, at in owners if at - below <= address < at + above)
        return next(found, 0)

    @cached_property
    def _owners(self) -> list[tuple[int, int]]:
        """Threads and their pointers; none if BPF or the kernel's types cannot be used."""
        with suppress(OSError, KwatchError):
            name = _POINTER[machine()]
            offsets = member_offsets("pid", name)
            if name in offsets:
                members = [Member(offsets["pid"], 4), Member(offsets[name], 8)]
                records = read_tasks("thread_pointers", self._pid, members)
                layout = [("tid", "<u4"), ("pointer", "<u8")]
                return [one for one in np.frombuffer(records, layout).tolist() if one[1]]
        return []

    @cached_property
    def _extent(self) -> tuple[int, int]:
        """How many bytes below and above its pointer belong to a thread."""
        variables = sum(self._tls_sizes())
        if machine() == "aarch64":
            return _DESCRIPTOR, _TCB_HEAD + variables
        return variables, _DESCRIPTOR

    def _tls_sizes(self) -> Iterator[int]:
        """Of each mapped file."""
        files = MappedFiles()
        for mapping in _files(self._pid):
            with suppress(ElfError):
                elf = files.open(self._pid, mapping)
                if elf is not None:
                    with elf:
                        yield elf.memory_of_segment(_PT_TLS)


def _files(pid: int) -> Iterator[Mapping]:
    """One mapping of each file with code."""
    seen = set()
    for mapping in read_mappings(pid):
        key = mapping.device, mapping.inode
        if mapping.executable and mapping.inode and key not in seen:
            seen.add(key)
            yield mapping
