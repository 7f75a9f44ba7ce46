# SPDX-License-Identifier: Apache-2.0
"""tracefs, even where it is not mounted: a detached mount that a descriptor keeps."""

from __future__ import annotations

import ctypes
import os
import re

from kwatch.kernel.syscall import syscall

# include/uapi/linux/mount.h
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6


_MEMBER = re.compile(r"\tfield:.*?(\w+)(?:\[\d*\])?;\toffset:(\d+);\tsize:(\d+);")


def tracepoint_id(tracepoint: str) -> int:
    """The id that perf uses for a tracepoint such as `sched/sched_process_exec`.

    fsmount(2) came with Linux 5.2. Raises OSError.
    """
    return int(_read(f"events/{tracepoint}/id"))


def members(tracepoint: str) -> dict[str, tuple[int, int]]:
    """Offset and size of each member of the record that perf makes. Raises OSError."""
    found = _MEMBER.findall(_read(f"events/{tracepoint}/format"))
    return {name: (int(offset), int(size)) for name, offset, size in found}


def _read(path: str) -> str:
    root = open_root()
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)) as file:
            return file.read()
    finally:
        os.close(root)


def open_root() -> int:
    """The root of a new mount of tracefs, which ends when the descriptor is closed."""
    context = syscall("fsopen", ctypes.create_string_buffer(b"tracefs"), _FSOPEN_CLOEXEC)
    try:
        syscall("fsconfig", context, _FSCONFIG_CMD_CREATE, 0, 0, 0)
        return syscall("fsmount", context, _FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)
