# SPDX-License-Identifier: Apache-2.0
"""An open ELF file as bytes and header tables, each read checked against the file's size.

The file is read, never mapped: truncating a mapped file would kill the reader with SIGBUS.
"""

from __future__ import annotations

import enum
import io
import os
import stat
from typing import Any

import numpy as np

from kwatch.errors import KwatchError
from kwatch.symbols import elf_layout as layout

_LARGEST_READ = 512 << 20


class ElfError(KwatchError):
    """The file is not a complete 64-bit little-endian ELF program or library."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class ElfType(enum.IntEnum):
    EXEC = 2
    DYN = 3


class ElfFile:
    """`type` and `machine` are the header's; every method may raise ElfError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = _open(path)
        try:
            self._size = os.fstat(self.fileno()).st_size
            self._read_header()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, offset: int, size: int) -> bytes:
        if offset + size > self._size or size > _LARGEST_READ:
            raise ElfError(self.path, "truncated, or the sizes in it are wrong")
        try:
            data = os.pread(self.fileno(), size, offset)
        except (OSError, ValueError) as err:
            raise ElfError(self.path, _reason(err)) from err
        if len(data) != size:
            raise ElfError(self.path, "truncated while it was read")
        return data

    def records(self, offset: int, size: int, dtype: np.dtype[Any]) -> layout.Records:
        whole = size - size % dtype.itemsize
        return np.frombuffer(self.read(offset, whole), dtype=dtype)

    def program_headers(self) -> layout.Records:
        size = layout.PROGRAM_HEADER.itemsize
        if self._phnum and self._phentsize != size:
            raise ElfError(self.path, f"program headers of {self._phentsize} bytes, not {size}")
        return self.records(self._phoff, self._phnum * size, layout.PROGRAM_HEADER)

    def section_headers(self) -> layout.Records:
        """Empty where the file was stripped of them."""
        size = layout.SECTION_HEADER.itemsize
        if not self._shoff:
            return np.empty(0, dtype=layout.SECTION_HEADER)
        if self._shentsize != size:
            raise ElfError(self.path, f"section headers of {self._shentsize} bytes, not {size}")
        first = self.records(self._shoff, size, layout.SECTION_HEADER)[0]
        # From 65,280 sections on, the count is in the first section's size: elf(5).
        count = self._shnum or int(first["size"])
        return self.records(self._shoff, count * size, layout.SECTION_HEADER)

    def section(self, name: bytes) -> np.void | None:
        """The header of the first section of this name that has contents in the file."""
        sections = self.section_headers()
        if self._shstrndx >= len(sections):
            return None
        strings = sections[self._shstrndx]
        names = self.read(int(strings["offset"]), int(strings["size"]))
        for section in sections[sections["type"] != layout.SHT_NOBITS]:
            at = int(section["name"])
            if names[at : at + len(name) + 1] == name + b"\0":
                found: np.void = section
                return found
        return None

    def _read_header(self) -> None:
        fields = layout.HEADER.unpack(self.read(0, layout.HEADER.size))
        ident, kind, self.machine = fields[:3]
        self._check_ident(ident)
        if kind not in (ElfType.EXEC, ElfType.DYN):
            raise ElfError(self.path, "neither a program nor a shared library")
        self.type = ElfType(kind)
        self._phoff, self._shoff = fields[5:7]
        self._phentsize, self._phnum, self._shentsize, self._shnum, self._shstrndx = fields[9:]

    def _check_ident(self, ident: bytes) -> None:
        if ident[:4] != layout.MAGIC:
            raise ElfError(self.path, "not an ELF file")
        if ident[4] != layout.CLASS64:
            raise ElfError(self.path, "not a 64-bit ELF file")
        if ident[5] != layout.LITTLE_ENDIAN:
            raise ElfError(self.path, "not a little-endian ELF file")


def _open(path: str) -> io.FileIO:
    """Only regular files: opening a device may have effects, and a FIFO would block."""
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
