# SPDX-License-Identifier: Apache-2.0
"""The inode of a path, as uprobes see it."""

from __future__ import annotations

import ctypes
import os
import struct

from kwatch.kernel.syscall import syscall

_OVERLAYFS = 0x794C7630  # include/uapi/linux/magic.h
_STATFS_SIZE = 256  # more than struct statfs has, whose first word is the type

#: Device, number and, where the device does not identify it, the time of the last change.
Inode = tuple[int, int, int]


def inode_of(path: str) -> Inode:
    """Equal for two paths if they share their uprobes. Raises OSError.

    Overlays that share a layer each give its files another device. A uprobe belongs to the layer's
    inode (d_real_inode(), in bpf_uprobe_multi_link_attach() and trace_uprobe_enable()), whose
    number and times are the same in all of them.
    """
    status = os.stat(path)
    if _file_system(path) == _OVERLAYFS:
        return 0, status.st_ino, status.st_ctime_ns
    return status.st_dev, status.st_ino, 0


def _file_system(path: str) -> int:
    name = ctypes.create_string_buffer(os.fsencode(path))
    found = ctypes.create_string_buffer(_STATFS_SIZE)
    syscall("statfs", name, found)
    kind: int = struct.unpack_from("l", found)[0]
    return kind
