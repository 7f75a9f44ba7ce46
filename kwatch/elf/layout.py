# SPDX-License-Identifier: Apache-2.0
"""The structures of 64-bit little-endian ELF, as in elf(5), and parsers of plain bytes."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[np.void]

MAGIC = b"\x7fELF"
CLASS64 = 2
LITTLE_ENDIAN = 1

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM_HEADER: np.dtype[Any] = np.dtype(
    [
        ("type", "<u4"),
        ("flags", "<u4"),
        ("offset", "<u8"),
        ("vaddr", "<u8"),
        ("paddr", "<u8"),
        ("filesz", "<u8"),
        ("memsz", "<u8"),
        ("align", "<u8"),
    ]
)
SECTION_HEADER: np.dtype[Any] = np.dtype(
    [
        ("name", "<u4"),
        ("type", "<u4"),
        ("flags", "<u8"),
        ("addr", "<u8"),
        ("offset", "<u8"),
        ("size", "<u8"),
        ("link", "<u4"),
        ("info", "<u4"),
        ("addralign", "<u8"),
        ("entsize", "<u8"),
    ]
)
SYMBOL: np.dtype[Any] = np.dtype(
    [
        ("name", "<u4"),
        ("info", "u1"),
        ("other", "u1"),
        ("shndx", "<u2"),
        ("value", "<u8"),
        ("size", "<u8"),
    ]
)
DYNAMIC: np.dtype[Any] = np.dtype([("tag", "<i8"), ("value", "<u8")])
RELA = np.dtype([("offset", "<u8"), ("type", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
NOTE_HEADER = struct.Struct("<III")

ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = 1, 2, 3, 4
PF_X = 1
PT_GNU_EH_FRAME = 0x6474E550
SHT_NOBITS = 8
SHT_SYMTAB, SHT_RELA, SHT_DYNSYM, SHT_GNU_VERSYM = 2, 4, 11, 0x6FFFFFFF
DT_NULL, DT_NEEDED, DT_STRTAB, DT_STRSZ = 0, 1, 5, 10
STB_LOCAL, STT_OBJECT, STT_FUNC, SHN_UNDEF = 0, 1, 2, 0
VERSYM_HIDDEN = 0x8000
NT_GNU_BUILD_ID = 3

#: What is read of a file at most. Usual files have a dozen program headers, and some hundred bytes
#: of notes.
MAX_HEADERS = 64
MAX_NOTES = 1 << 16


def program_headers(table: bytes) -> Records:
    """The complete program headers in the bytes."""
    whole = len(table) - len(table) % PROGRAM_HEADER.itemsize
    return np.frombuffer(table[:whole], dtype=PROGRAM_HEADER)


def string_at(table: bytes, offset: int) -> str:
    """The NUL-terminated string at `offset`; empty if there is none."""
    end = table.find(b"\0", offset)
    return os.fsdecode(table[offset:end]) if end >= 0 else ""


def build_id(headers: Records, read: Callable[[np.void, int], bytes]) -> bytes | None:
    """The build-id in the first notes. `read` returns so many bytes of a header's segment."""
    room = MAX_NOTES
    for header in headers[headers["type"] == PT_NOTE][:MAX_HEADERS]:
        size = min(int(header["filesz"]), room)
        room -= size
        found = _build_id_in(read(header, size), 8 if header["align"] == 8 else 4)
        if found:
            return found
    return None


def _build_id_in(notes: bytes, align: int) -> bytes | None:
    """The descriptor of the GNU build-id note, if there is one."""
    at = 0
    while at + NOTE_HEADER.size <= len(notes):
        name_size, size, kind = NOTE_HEADER.unpack_from(notes, at)
        name_at = at + NOTE_HEADER.size
        desc_at = _aligned(name_at + name_size, align)
        if kind == NT_GNU_BUILD_ID and notes[name_at : name_at + name_size] == b"GNU\0":
            return notes[desc_at : desc_at + size]
        at = _aligned(desc_at + size, align)
    return None


def _aligned(value: int, align: int) -> int:
    return (value + align - 1) & -align
