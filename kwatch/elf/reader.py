# SPDX-License-Identifier: Apache-2.0
"""Reads bytes and header tables from an ELF file; checks each read against the size of the file.

The file is read, never mapped: when a mapped file is truncated, SIGBUS kills the reader.
"""

from __future__ import annotations

import io
import os
import stat
from typing import Any

import numpy as np

from kwatch.elf import layout
from kwatch.errors import KwatchError

_MAX_SECTIONS = 1 << 16
_MAX_NAMES = 1 << 20  # bytes of section names


class ElfError(KwatchError):
    """The file is not a complete 64-bit little-endian ELF program or library."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Elf32Error(ElfError):
    """The file is a 32-bit program or library."""


class ElfFile:
    """`machine` is the header's, `size` is the file's.

    Every method may raise ElfError.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = _open(path)
        try:
            self.size = os.fstat(self.fileno()).st_size
            self._read_header()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, offset: int, size: int, max_size: int) -> bytes:
        """Reads at most `max_size` bytes: `size` may be a false number from the file."""
        if offset + size > self.size or size > max_size:
            raise ElfError(self.path, "truncated, or the sizes in it are wrong")
        try:
            data = os.pread(self.fileno(), size, offset)
        except (OSError, ValueError) as err:
            raise ElfError(self.path, _reason(err)) from err
        if len(data) != size:
            raise ElfError(self.path, "truncated while it was read")
        return data

    def records(
        self, offset: int, size: int, dtype: np.dtype[Any], max_size: int
    ) -> layout.Records:
        """The complete records in `size` bytes."""
        whole = size - size % dtype.itemsize
        return np.frombuffer(self.read(offset, whole, max_size), dtype=dtype)

    def program_headers(self) -> layout.Records:
        size = layout.PROGRAM_HEADER.itemsize
        if self._phnum and self._phentsize != size:
            raise ElfError(self.path, f"program headers of {self._phentsize} bytes, not {size}")
        if self._phnum > layout.MAX_HEADERS:
            raise ElfError(self.path, f"{self._phnum} program headers")
        return self._table(self._phoff, self._phnum, layout.PROGRAM_HEADER)

    def section_headers(self) -> layout.Records:
        """Empty if they have been stripped."""
        size = layout.SECTION_HEADER.itemsize
        if not self._shoff:
            return np.empty(0, dtype=layout.SECTION_HEADER)
        if self._shentsize != size:
            raise ElfError(self.path, f"section headers of {self._shentsize} bytes, not {size}")
        first = self._table(self._shoff, 1, layout.SECTION_HEADER)[0]
        # From 65,280 sections on, the size of the first section is their number: elf(5).
        count = self._shnum or int(first["size"])
        if count > _MAX_SECTIONS:
            raise ElfError(self.path, f"{count} sections")
        return self._table(self._shoff, count, layout.SECTION_HEADER)

    def section(self, name: bytes) -> np.void | None:
        """The header of the first section of this name with contents in the file."""
        sections = self.section_headers()
        if self._shstrndx >= len(sections):
            return None
        strings = sections[self._shstrndx]
        names = self.read(int(strings["offset"]), int(strings["size"]), _MAX_NAMES)
        held = sections[sections["type"] != layout.SHT_NOBITS]
        for index, at in enumerate(held["name"].tolist()):
            if names.startswith(name + b"\0", at):
                found: np.void = held[index]
                return found
        return None

    def _table(self, offset: int, count: int, dtype: np.dtype[Any]) -> layout.Records:
        size = count * dtype.itemsize
        return self.records(offset, size, dtype, size)

    def _read_header(self) -> None:
        size = layout.HEADER.size
        fields = layout.HEADER.unpack(self.read(0, size, size))
        ident, kind, self.machine = fields[:3]
        self._check_ident(ident)
        if kind not in (layout.ET_EXEC, layout.ET_DYN):
            raise ElfError(self.path, "neither a program nor a shared library")
        self._phoff, self._shoff = fields[5:7]
        self._phentsize, self._phnum, self._shentsize, self._shnum, self._shstrndx = fields[9:]

    def _check_ident(self, ident: bytes) -> None:
        if ident[:4] != layout.MAGIC:
            raise ElfError(self.path, "not an ELF file")
        if ident[4] != layout.CLASS64:
            raise Elf32Error(self.path, "not a 64-bit ELF file")
        if ident[5] != layout.LITTLE_ENDIAN:
            raise ElfError(self.path, "not a little-endian ELF file")


def _open(path: str) -> io.FileIO:
    """Opens regular files only: opening a device may have side effects."""
    try:
        file = io.FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except (OSError, ValueError) as err:
        raise ElfError(path, _reason(err)) from err
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ElfError(path, "not a regular file")
    return file


def _reason(err: OSError | ValueError) -> str:
    return getattr(err, "strerror", None) or str(err)
