# SPDX-License-Identifier: Apache-2.0
"""The mappings of a process that nobody can name any more, through its /proc/PID/maps."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator

from kwatch.reach.regions import Region

_QUERY = 0xC0686611  # PROCMAP_QUERY: Linux 6.11, commit ed5d583a88a9
_OR_NEXT = 0x10
_READABLE, _WRITABLE, _EXECUTABLE, _SHARED = 1, 2, 4, 8
_MAX_NAME = 4096


class _Query(ctypes.Structure):
    """struct procmap_query of linux/fs.h."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("size", "flags", "address")),
        *((name, ctypes.c_uint64) for name in ("start", "end", "vma_flags", "page_size")),
        *((name, ctypes.c_uint64) for name in ("offset", "inode")),
        *((name, ctypes.c_uint32) for name in ("major", "minor", "name_size", "build_id_size")),
        *((name, ctypes.c_uint64) for name in ("name_address", "build_id_address")),
    )


def query_regions(maps: int) -> list[Region] | None:
    """None if the kernel cannot be asked. `maps`: an open /proc/PID/maps."""
    try:
        return list(_queried(maps))
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.ESRCH, errno.EINVAL):
            return None
        raise


def _queried(maps: int) -> Iterator[Region]:
    name = ctypes.create_string_buffer(_MAX_NAME)
    query = _Query(size=ctypes.sizeof(_Query), flags=_OR_NEXT)
    query.name_address = ctypes.addressof(name)
    while True:
        query.name_size = _MAX_NAME
        try:
            fcntl.ioctl(maps, _QUERY, query, True)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        path = os.fsdecode(name.raw[: max(query.name_size - 1, 0)])
        yield Region(query.start, query.end, _permissions(query.vma_flags), query.inode, path)
        query.address = query.end


def _permissions(flags: int) -> str:
    bits = ((_READABLE, "r"), (_WRITABLE, "w"), (_EXECUTABLE, "x"))
    access = "".join(letter if flags & bit else "-" for bit, letter in bits)
    return access + ("s" if flags & _SHARED else "p")
