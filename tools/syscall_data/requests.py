# SPDX-License-Identifier: Apache-2.0
"""Requests of ioctl(2): every macro of the kernel's headers that makes one, as ioctls.tsv.

Each header is compiled alone, since many exclude each other; those that a program cannot include
by themselves are left out and counted.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from syscall_data.compiler import CompileError, header_folder, macros, values

_REQUEST = re.compile(r"^#\s*define\s+(\w+)\s+_S?IO(?:R|W|WR|RW)?(?:_BAD)?\s*\(", re.MULTILINE)
_PLAIN = re.compile(
    r"^#\s*define\s+((?:T[CI]|SIOC|FIO|FIGETBSZ|FIBMAP|BLK|LOOP_|CDROM|FDM)\w*)\s+0x[0-9A-Fa-f]+\b",
    re.MULTILINE,
)
_PLACES = ["linux", "asm-generic", "drm", "misc", "mtd", "rdma", "scsi", "sound", "video", "xen"]
_NOT_REQUESTS = re.compile(r"_(BASE|MAGIC|NR|TYPE|MAX|SIZE|CODE|LETTER)$|^_")
#: Types that some headers use without including them.
_TYPES = ("sys/types.h", "sys/time.h", "stdint.h")
#: Names that others would hide: the terminal's first, then the general ones.
_FIRST = ["asm/ioctls.h", "linux/sockios.h", "linux/fs.h"]


def rows() -> tuple[list[str], list[str]]:
    """Lines of ioctls.tsv (number on 64-bit ABIs, on 32-bit ones, name), and headers left out."""
    folder = header_folder()
    headers = _FIRST + sorted(
        str(path.relative_to(folder))
        for place in _PLACES
        for path in (folder / place).rglob("*.h")
        if _REQUEST.search(path.read_text(errors="replace"))
    )
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda header: _requests(folder, header), headers))
    taken: dict[str, tuple[int, int | None]] = {}
    left_out = [header for header, numbers in zip(headers, found, strict=True) if numbers is None]
    for numbers in found:
        for name, pair in (numbers or {}).items():
            taken.setdefault(name, pair)
    lines = [
        f"{wide:x}\t{'' if narrow in (None, wide) else format(narrow, 'x')}\t{name}"
        for name, (wide, narrow) in sorted(taken.items(), key=lambda item: (item[1][0], item[0]))
    ]
    return lines, left_out


def _requests(folder: Path, header: str) -> dict[str, tuple[int, int | None]] | None:
    path = folder / header
    if header == "asm/ioctls.h":
        path = folder / "asm-generic/ioctls.h"
    text = path.read_text(errors="replace")
    names = set(_REQUEST.findall(text))
    if header in _FIRST:
        names |= set(_PLAIN.findall(text))
    names = {name for name in names if not _NOT_REQUESTS.search(name)}
    found: dict[str, tuple[int, int | None]] | None = None
    for includes in (("linux/ioctl.h", header), (*_TYPES, "linux/ioctl.h", header)):
        try:
            known = [name for name in macros("x86_64", includes) if name in names]
            wide, narrow = values("x86_64", includes, known), values("i386", includes, known)
        except CompileError:
            continue
        found = (found or {}) | {
            name: (number, narrow.get(name))
            for name, number in wide.items()
            if number <= 0xFFFFFFFF
        }
        if len(found) == len(known):
            break
    return found
