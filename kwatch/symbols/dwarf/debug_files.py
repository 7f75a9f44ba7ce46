# SPDX-License-Identifier: Apache-2.0
"""Finds the separate debug file of a stripped file: by libdw, in the root directory of the
program, and on debuginfod servers.

A debug file must have the build-id of the stripped file or, if that has none, the checksum in its
debug link.
"""

from __future__ import annotations

import ctypes
import os
import stat
import zlib
from collections.abc import Iterator
from ctypes import byref, c_char_p, c_uint64, c_void_p
from typing import Any

from kwatch.symbols.dwarf.debuginfod import Debuginfod
from kwatch.symbols.dwarf.libc import duplicate
from kwatch.symbols.dwarf.libdw_api import FIND_DEBUGINFO, build_id_of, load_libdw

_DEBUG = "/usr/lib/debug"
_CHUNK = 1 << 20


class DebugFiles:
    """The search for one module. `callback` is for libdw; keep it as long as the module.

    `root` is the root directory of the program, empty if it is that of kwatch.
    """

    def __init__(self, root: str, server: Debuginfod | None) -> None:
        self._root = root
        self._server = server
        self._awaited: bytes | None = None
        self.callback = FIND_DEBUGINFO(self._find)

    @property
    def pending(self) -> bool:
        """Whether the file was still being downloaded when it was searched for."""
        return self._awaited is not None

    def has_arrived(self) -> bool:
        """Whether a pending download has ended, with or without a file."""
        if self._awaited is None or self._server is None:
            return False
        found = self._server.find(self._awaited)
        return found is not None or not self._server.is_pending(self._awaited)

    def _find(self, *arguments: Any) -> int:
        module, _, _, _, file_name, link, checksum, name_at = arguments
        found: int = load_libdw().dwfl_standard_find_debuginfo(*arguments)
        if found >= 0:
            return found
        build_id = _build_id(module)
        path = self._in_root(build_id, file_name, link, checksum) if self._root else None
        if path is None and build_id and self._server is not None:
            path = self._server.find(build_id)
            if path is None and self._server.is_pending(build_id):
                self._awaited = build_id
        return _open(path, name_at) if path else -1

    def _in_root(
        self, build_id: bytes, file_name: bytes | None, link: bytes | None, checksum: int
    ) -> str | None:
        for path in self._candidates(build_id, file_name, link):
            if _matches(path, build_id, checksum):
                return path
        return None

    def _candidates(
        self, build_id: bytes, file_name: bytes | None, link: bytes | None
    ) -> Iterator[str]:
        if build_id:
            name = f"{build_id[:1].hex()}/{build_id[1:].hex()}.debug"
            yield f"{self._root}{_DEBUG}/.build-id/{name}"
        if file_name and link:
            folder, base = os.path.dirname(os.fsdecode(file_name)), os.fsdecode(link)
            for place in (folder, f"{folder}/.debug", f"{_DEBUG}{folder}"):
                yield f"{self._root}{place}/{os.path.basename(base)}"


def _build_id(module: int) -> bytes:
    data, address = c_void_p(), c_uint64()
    size = load_libdw().dwfl_module_build_id(module, byref(data), byref(address))
    return ctypes.string_at(data, size) if size > 0 and data.value else b""


def _matches(path: str, build_id: bytes, checksum: int) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return False
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        return build_id_of(fd) == build_id if build_id else _checksum(fd) == checksum
    finally:
        os.close(fd)


def _checksum(fd: int) -> int:
    """The CRC of .gnu_debuglink, which is the same as that of zlib."""
    value, at = 0, 0
    while chunk := os.pread(fd, _CHUNK, at):
        value, at = zlib.crc32(chunk, value), at + len(chunk)
    return value


def _open(path: str, name_at: Any) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return -1
    name_at[0] = duplicate(c_char_p(os.fsencode(path)))  # libdw frees it
    return fd
