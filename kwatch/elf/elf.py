# SPDX-License-Identifier: Apache-2.0
"""Reads what a tracer needs from an ELF file: segments, needed libraries, functions, code.

A traced process may map any file, so nothing in it is trusted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from kwatch.elf import layout
from kwatch.elf.reader import ElfError, ElfFile
from kwatch.elf.symtab import SymbolTable, Versions

__all__ = ["Elf", "ElfError", "Function", "Segment"]

_PATH_MAX = 4096
# Limits in bytes, but for needed libraries. They are several times what browsers have.
_MAX_DYNAMIC = 1 << 20
_MAX_NEEDED = 4096
_MAX_SYMBOLS = 128 << 20
_MAX_STRINGS = 256 << 20
_MAX_RELOCATIONS = 32 << 20  # of all sections together
_MAX_RELOCATION_SECTIONS = 8


@dataclass(frozen=True, slots=True)
class Segment:
    """A PT_LOAD program header."""

    offset: int
    vaddr: int
    filesz: int
    flags: int

    @property
    def executable(self) -> bool:
        return bool(self.flags & layout.PF_X)


@dataclass(frozen=True, slots=True)
class Function:
    """`vaddr` is the virtual address in the file, `offset` the position in the file."""

    name: str
    vaddr: int
    size: int
    offset: int


class Elf:
    """An open ELF file. Every method may raise ElfError. The attributes stay valid after `close`.

    `interpreter` is the dynamic loader's path, `needed` the DT_NEEDED names.
    """

    def __init__(self, file: ElfFile) -> None:
        """Takes over `file`."""
        self._file = file
        self._tables: list[SymbolTable] | None = None
        self.path = file.path
        self.size = file.size
        self.machine: int = file.machine
        headers = file.program_headers()
        self._headers = headers
        self.segments = _segments(headers)
        self._code_first = sorted(self.segments, key=lambda segment: not segment.executable)
        self.interpreter = self._interpreter(headers)
        self.build_id = layout.build_id(headers, self._contents)
        self.needed = self._needed(self._dynamic(headers))

    @classmethod
    def open(cls, path: str) -> Elf:
        file = ElfFile(path)
        try:
            return cls(file)
        except BaseException:
            file.close()
            raise

    @classmethod
    def in_memory(cls, image: bytes, name: str) -> Elf:
        """An ELF image that is in no file, such as the vdso."""
        with open(os.memfd_create(name, os.MFD_CLOEXEC), "wb") as file:
            file.write(image)
            file.flush()
            return cls.open(f"/proc/self/fd/{file.fileno()}")

    def __enter__(self) -> Elf:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.forget_symbols()
        self._file.close()

    def forget_symbols(self) -> None:
        """Frees the symbol tables; they are read again when they are needed."""
        self._tables = None

    def fileno(self) -> int:
        return self._file.fileno()

    def functions(self, names: Iterable[str]) -> dict[str, Function]:
        """The functions of these names that the file defines, except IFUNCs.

        `.dynsym` has precedence over `.symtab`.
        """
        missing = set(names)
        found = {}
        for table in self._symbol_tables():
            for name, vaddr, size in table.find(missing):
                offset = self.offset_of(vaddr)
                if offset is not None:
                    found[name] = Function(name, vaddr, size, offset)
            missing -= found.keys()
        return found

    def variable(self, name: str) -> tuple[int, int] | None:
        """The address and the size of a variable that the file defines."""
        for table in self._symbol_tables():
            for _, vaddr, size in table.find([name], layout.STT_OBJECT):
                return vaddr, size
        return None

    def names(self, most: int) -> Iterator[str]:
        """The names of variables and functions, at most so many of each symbol table."""
        for table in self._symbol_tables():
            yield from table.names(most)

    def variable_at(self, vaddr: int) -> tuple[str, int] | None:
        """The variable that contains this address, and the offset in it."""
        found = (table.variable_at(vaddr) for table in reversed(self._symbol_tables()))
        return next((variable for variable in found if variable is not None), None)

    def may_define(self, names: Iterable[str]) -> bool:
        """Whether a name ends like one of these; faster than to look for functions."""
        keys = [name.encode("utf-8", "surrogateescape") + b"\0" for name in names]
        return any(key in table.strings for table in self._symbol_tables() for key in keys)

    def prefixes(self, endings: Iterable[str]) -> set[str]:
        """What comes before one of these endings in the names of functions."""
        tables, wanted = self._symbol_tables(), list(endings)
        return set().union(*(table.prefixes(each) for table in tables for each in wanted))

    def imports(self, names: Iterable[str]) -> bool:
        """Whether the file needs one of these symbols from another file."""
        wanted = list(names)
        return any(table.imports(wanted) for table in self._symbol_tables())

    def mentions(self, names: Iterable[str]) -> bool:
        """Whether a symbol table has one of these names, as a definition or as a need."""
        wanted = list(names)
        return any(table.mentions(wanted) for table in self._symbol_tables())

    def read(self, vaddr: int, size: int) -> bytes:
        """What the file has at `vaddr`: less than `size` bytes if the segment ends there."""
        for segment in self._code_first:
            skipped = vaddr - segment.vaddr
            if 0 <= skipped < segment.filesz:
                held = min(size, segment.filesz - skipped)
                return self._file.read(segment.offset + skipped, held, size)
        raise ElfError(self.path, f"nothing at address {vaddr:#x}")

    def section(self, name: bytes, max_size: int) -> tuple[int, bytes] | None:
        """(address, contents) of the first section of this name with contents in the file.

        Raises ElfError if it has more than `max_size` bytes.
        """
        header = self._file.section(name)
        if header is None:
            return None
        offset, size = int(header["offset"]), int(header["size"])
        return int(header["addr"]), self._file.read(offset, size, max_size)

    def address_of_segment(self, kind: int) -> int | None:
        """The virtual address of the first program header of this type."""
        for header in self._headers[self._headers["type"] == kind][:1]:
            return int(header["vaddr"])
        return None

    def memory_of_segment(self, kind: int) -> int:
        """The bytes that the first program header of this type takes, with what aligns them."""
        for header in self._headers[self._headers["type"] == kind][:1]:
            return int(header["memsz"]) + int(header["align"])
        return 0

    def offset_of(self, vaddr: int) -> int | None:
        for segment in self._code_first:
            if 0 <= vaddr - segment.vaddr < segment.filesz:
                return vaddr - segment.vaddr + segment.offset
        return None

    def vaddr_of(self, file_offset: int) -> int | None:
        """The address of an offset; in the executable segment, if two contain the offset."""
        for segment in self._code_first:
            if 0 <= file_offset - segment.offset < segment.filesz:
                return file_offset - segment.offset + segment.vaddr
        return None

    def slot_targets(self) -> dict[int, int]:
        """The addresses to which slots of the linkage table lead, by the addresses of the slots.

        Lists only slots of symbols that this file defines. The dynamic loader may still choose the
        definition of another file.
        """
        found: dict[int, int] = {}
        for table, entries in self._relocations():
            if table is None:
                continue
            values = self._records(table, layout.SYMBOL, _MAX_SYMBOLS)["value"]
            entries = entries[(entries["symbol"] > 0) & (entries["symbol"] < len(values))]
            entries = entries[values[entries["symbol"]] > 0]
            found |= zip(
                entries["offset"].tolist(), values[entries["symbol"]].tolist(), strict=True
            )
        return found

    def slots_of(self, names: Iterable[str]) -> set[int]:
        """The addresses of slots that lead to functions of these names, in whatever file they are.

        The dynamic loader chooses some functions by the machine (IFUNC). Their slots name none.
        """
        tables, wanted = self._symbol_tables(), list(names)
        rows = [(table, table.rows(wanted)) for table in tables]
        choosers = [int(table.symbols[row]["value"]) for table, named in rows for row in named]
        found: set[int] = set()
        for dynamic, entries in self._relocations():
            symbols = rows[0][1] if dynamic is not None else []
            by_symbol = np.isin(entries["symbol"], symbols) & (entries["symbol"] > 0)
            chosen = (entries["symbol"] == 0) & np.isin(entries["addend"], choosers)
            found |= set(entries["offset"][by_symbol | chosen].tolist())
        return found

    def _relocations(self) -> Iterator[tuple[np.void | None, layout.Records]]:
        """Relocations, with the header of the dynamic symbol table; None if they name no symbol."""
        sections = self._file.section_headers()
        room = _MAX_RELOCATIONS
        for section in sections[sections["type"] == layout.SHT_RELA][:_MAX_RELOCATION_SECTIONS]:
            if section["link"] >= len(sections) or section["size"] > room:
                continue
            table = sections[section["link"]]
            if section["link"] and table["type"] != layout.SHT_DYNSYM:
                continue
            entries = self._records(section, layout.RELA, room)
            room -= entries.nbytes
            yield (table if section["link"] else None), entries

    def _records(self, section: np.void, dtype: np.dtype[np.void], max_size: int) -> layout.Records:
        return self._file.records(int(section["offset"]), int(section["size"]), dtype, max_size)

    def _symbol_tables(self) -> list[SymbolTable]:
        """Kept until `forget_symbols`: a large file takes long to read."""
        if self._tables is None:
            self._tables = self._read_symbol_tables()
        return self._tables

    def _read_symbol_tables(self) -> list[SymbolTable]:
        sections = self._file.section_headers()
        found = {
            kind: sections[np.flatnonzero(sections["type"] == kind)[0]]
            for kind in (layout.SHT_DYNSYM, layout.SHT_SYMTAB)
            if (sections["type"] == kind).any()
        }
        versions = self._versions(sections)
        return [
            self._symbol_table(
                section, sections, versions if kind == layout.SHT_DYNSYM else versions[:0]
            )
            for kind, section in found.items()
        ]

    def _symbol_table(
        self, section: np.void, sections: layout.Records, versions: Versions
    ) -> SymbolTable:
        if section["link"] >= len(sections):
            raise ElfError(self.path, "a symbol table without a string table")
        strings = sections[section["link"]]
        return SymbolTable(
            self._records(section, layout.SYMBOL, _MAX_SYMBOLS),
            self._file.read(int(strings["offset"]), int(strings["size"]), _MAX_STRINGS),
            versions,
        )

    def _versions(self, sections: layout.Records) -> Versions:
        for section in sections[sections["type"] == layout.SHT_GNU_VERSYM][:1]:
            size = int(section["size"]) & ~1
            data = self._file.read(int(section["offset"]), size, _MAX_SYMBOLS)
            return np.frombuffer(data, dtype="<u2")
        return np.empty(0, dtype="<u2")

    def _interpreter(self, headers: layout.Records) -> str | None:
        for header in headers[headers["type"] == layout.PT_INTERP][:1]:
            size = min(int(header["filesz"]), _PATH_MAX)
            return layout.string_at(self._contents(header, size) + b"\0", 0)
        return None

    def _contents(self, header: np.void, size: int) -> bytes:
        return self._file.read(int(header["offset"]), size, size)

    def _dynamic(self, headers: layout.Records) -> dict[int, list[int]]:
        """The values of each tag in the dynamic section."""
        values: dict[int, list[int]] = {}
        for header in headers[headers["type"] == layout.PT_DYNAMIC][:1]:
            size = min(int(header["filesz"]), _MAX_DYNAMIC)
            entries = np.frombuffer(self._contents(header, size & -16), layout.DYNAMIC)
            ends = np.flatnonzero(entries["tag"] == layout.DT_NULL)
            for tag, value in entries[: ends[0] if len(ends) else None].tolist():
                values.setdefault(tag, []).append(value)
        return values

    def _needed(self, dynamic: dict[int, list[int]]) -> list[str]:
        if layout.DT_NEEDED not in dynamic:
            return []
        if layout.DT_STRTAB not in dynamic or layout.DT_STRSZ not in dynamic:
            raise ElfError(self.path, "needed libraries without a string table")
        strings, size = dynamic[layout.DT_STRTAB][0], dynamic[layout.DT_STRSZ][0]
        places = [at for at in dynamic[layout.DT_NEEDED][:_MAX_NEEDED] if at < size]
        names = (self.read(strings + at, min(size - at, _PATH_MAX)) for at in places)
        return [layout.string_at(name, 0) for name in names]


def _segments(headers: layout.Records) -> list[Segment]:
    loads = headers[headers["type"] == layout.PT_LOAD]
    fields = ("offset", "vaddr", "filesz", "flags")
    return [Segment(*values) for values in zip(*(loads[f].tolist() for f in fields), strict=True)]
