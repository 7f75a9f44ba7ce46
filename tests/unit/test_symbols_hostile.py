# SPDX-License-Identifier: Apache-2.0
"""Small files that claim huge sizes: any process may map them, and kwatch reads them as root."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kwatch.elf import layout
from kwatch.elf.elf import Elf, ElfError
from kwatch.unwind.table import build_table

SIZE = 512 << 20
MEMORY = 500 << 20
SECONDS = 3.0
DATA = 0x10000
CODE = (layout.PT_LOAD, layout.PF_X, 0, 0, 0, DATA, DATA, 4096)


def hostile(
    path: Path,
    headers: list[tuple[int, ...]],
    sections: list[tuple[int, ...]] | None = None,
    counts: tuple[int, int] | None = None,
    data: bytes = b"",
) -> Path:
    """A sparse file: ELF header, program headers, sections at 0x8000, `data` at 0x10000.

    `counts`: of headers and sections, as the file claims.
    """
    sections = sections or []
    numbers = counts or (len(headers), len(sections))
    ident = layout.MAGIC + bytes([layout.CLASS64, layout.LITTLE_ENDIAN, 1]) + bytes(9)
    table = (64, 0x8000 if sections else 0, 0, 64, 56, numbers[0], 64, numbers[1], 1)
    with path.open("wb") as file:
        file.write(layout.HEADER.pack(ident, 3, 62, 1, 0, *table))
        file.write(np.array(headers, layout.PROGRAM_HEADER).tobytes())
        file.seek(0x8000)
        file.write(np.array(sections, layout.SECTION_HEADER).tobytes())
        file.seek(DATA)
        file.write(data)
        file.truncate(SIZE)
    return path


def header(kind: int, offset: int, size: int, align: int = 4) -> tuple[int, ...]:
    return (kind, 4, offset, offset, offset, size, size, align)


def a_section(kind: int, offset: int, size: int, link: int = 0, name: int = 0) -> tuple[int, ...]:
    return (name, kind, 0, offset, offset, size, link, 0, 8, 0)


NONE = a_section(0, 0, 0)
REST = SIZE - (1 << 20)
SYMBOLS = np.full(1 << 16, 0, layout.SYMBOL)
SYMBOLS["info"], SYMBOLS["shndx"], SYMBOLS["name"] = layout.STT_FUNC, 1, range(1 << 16)


def dynamic(path: Path) -> Path:
    return hostile(path, [CODE, header(layout.PT_DYNAMIC, 1 << 20, REST)])


def endless_dynamic(path: Path) -> Path:
    tags = np.ones(1 << 20, layout.DYNAMIC)  # a million needed libraries
    tags["tag"][:2] = layout.DT_STRTAB, layout.DT_STRSZ
    tags["value"][:2] = DATA, SIZE
    data = tags.tobytes()
    whole = (layout.PT_LOAD, 4, 0, 0, 0, SIZE, SIZE, 4096)
    return hostile(path, [CODE, whole, header(layout.PT_DYNAMIC, DATA, len(data))], data=data)


def notes(path: Path) -> Path:
    return hostile(path, [CODE] + [header(layout.PT_NOTE, DATA, REST)] * 63)


def many_headers(path: Path) -> Path:
    return hostile(path, [CODE], counts=(0xFFFF, 0))


def many_sections(path: Path) -> Path:
    first = a_section(0, 0, (SIZE - 0x8000) // 64)
    return hostile(path, [CODE], [first], (1, 0))


def sections_with_long_names(path: Path) -> Path:
    return hostile(path, [CODE], [NONE, a_section(3, DATA, REST)] + [NONE] * 400)


def unwind_information(path: Path) -> Path:
    names = a_section(3, DATA, 100)
    frames = a_section(1, 1 << 20, REST, name=1)
    return hostile(path, [CODE], [NONE, names, frames], data=b"\0.eh_frame\0")


def symbols(path: Path) -> Path:
    table = a_section(layout.SHT_SYMTAB, 1 << 20, REST, link=1)
    return hostile(path, [CODE], [NONE, a_section(3, 1 << 20, REST), table])


def strings(path: Path) -> Path:
    """Hundreds of millions of NULs."""
    table = a_section(layout.SHT_SYMTAB, DATA, SYMBOLS.nbytes, link=1)
    names = a_section(3, 1 << 21, 255 << 20)
    return hostile(path, [CODE], [NONE, names, table], data=SYMBOLS.tobytes())


def relocations(path: Path) -> Path:
    table = a_section(layout.SHT_DYNSYM, DATA, SYMBOLS.nbytes, link=1)
    lists = [a_section(layout.SHT_RELA, 1 << 20, REST, link=2)] * 400
    return hostile(path, [CODE], [NONE, NONE, table, *lists], data=SYMBOLS.tobytes())


def peak() -> int:
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


@pytest.mark.parametrize(
    "make",
    [
        dynamic,
        endless_dynamic,
        notes,
        many_headers,
        many_sections,
        sections_with_long_names,
        unwind_information,
        symbols,
        strings,
        relocations,
    ],
)
def test_large_claims_cost_little(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "hostile")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak: proc(5)
    before, started = peak(), time.process_time()
    with contextlib.suppress(ElfError), Elf.open(str(path)) as elf:
        for use in (build_table, Elf.slot_targets, lambda elf: elf.functions(["malloc", "free"])):
            with contextlib.suppress(ElfError):
                use(elf)
    assert time.process_time() - started < SECONDS
    assert peak() - before < MEMORY


def test_the_first_of_many_notes_are_read(tmp_path: Path) -> None:
    build_id = layout.NOTE_HEADER.pack(4, 4, layout.NT_GNU_BUILD_ID) + b"GNU\0wxyz"
    headers = [header(layout.PT_NOTE, SIZE - 64, 64), header(layout.PT_NOTE, DATA, REST)]
    with Elf.open(str(hostile(tmp_path / "file", [CODE, *headers], data=build_id))) as elf:
        assert elf.build_id == b"wxyz"
