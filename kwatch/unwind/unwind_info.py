# SPDX-License-Identifier: Apache-2.0
"""The parts of an ELF file that its unwind table is made from."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from kwatch.elf.elf import Elf, ElfError, Segment
from kwatch.elf.layout import PT_GNU_EH_FRAME
from kwatch.unwind.code_layout import Placement
from kwatch.unwind.encoding import Malformed, read_pointer
from kwatch.unwind.machines import MACHINES, Machine
from kwatch.wire.unwind_rows import BLOCK_SIZE

_MAX_EH_FRAME = 64 << 20  # bytes; a browser has half of that
_MAX_CODE = 1 << 31
_MAX_SEARCHED = 16 << 20
_POINTER_BYTES = 16
_SEGMENT = struct.Struct("<QQQ")


@dataclass(frozen=True, slots=True)
class UnwindInfo:
    """`segments` are the executable ones; `eh_frame` is empty if the file has none.

    `trampolines` are (address, size) of code that returns from signals. Only a file that needs no
    library can have it: the C library, the vdso, a static program.
    """

    path: str
    machine: Machine
    segments: tuple[Segment, ...]
    eh_frame: bytes
    eh_frame_vaddr: int
    trampolines: tuple[tuple[int, int], ...]
    build_id: bytes | None

    @property
    def base(self) -> int:
        """The lowest address of code, rounded down to a block."""
        return min(segment.vaddr for segment in self.segments) // BLOCK_SIZE * BLOCK_SIZE

    @property
    def size(self) -> int:
        """Bytes from `base` to the end of code, without large distances between segments."""
        return Placement(self.segments).end - self.base

    def digest(self) -> bytes:
        """A digest of all that the table depends on: equal digests have equal tables."""
        digest = hashlib.blake2b(digest_size=16)
        numbers = [self.machine.number, self.eh_frame_vaddr, len(self.trampolines)]
        numbers += [number for pair in self.trampolines for number in pair]
        digest.update(struct.pack(f"<{len(numbers)}Q", *numbers))
        for each in self.segments:
            digest.update(_SEGMENT.pack(each.offset, each.vaddr, each.filesz))
        digest.update(self.eh_frame)
        return digest.digest()


def read_unwind_info(elf: Elf) -> UnwindInfo:
    """Raises ElfError for a file that is damaged, has no code, or is of another machine."""
    machine = MACHINES.get(elf.machine)
    if machine is None:
        raise ElfError(elf.path, f"code for machine {elf.machine}")
    segments = tuple(each for each in elf.segments if each.executable and each.filesz)
    if not segments:
        raise ElfError(elf.path, "no code")
    if any(each.offset + each.filesz > elf.size for each in segments):
        raise ElfError(elf.path, "code beyond the end of the file")
    vaddr, eh_frame = _eh_frame(elf)
    trampolines = tuple(_trampolines(elf, machine, segments))
    info = UnwindInfo(elf.path, machine, segments, eh_frame, vaddr, trampolines, elf.build_id)
    if info.size > _MAX_CODE:
        raise ElfError(elf.path, f"code from {info.base:#x} spans {info.size} bytes")
    return info


def _eh_frame(elf: Elf) -> tuple[int, bytes]:
    """(address, contents), by the section if there is one: static programs may have no pointer."""
    try:
        found = elf.section(b".eh_frame", _MAX_EH_FRAME)
    except ElfError:
        found = None  # after stripping, the header may name sections beyond the end
    if found is None:
        header = elf.address_of_segment(PT_GNU_EH_FRAME)
        found = (0, b"") if header is None else _behind_header(elf, header)
    return found


def _behind_header(elf: Elf, header: int) -> tuple[int, bytes]:
    """`.eh_frame` up to the end of its segment; an entry of size 0 ends it earlier."""
    try:
        data = elf.read(header, 4 + _POINTER_BYTES)
        vaddr, _ = read_pointer(data, 4, data[1] if len(data) > 1 else 0, header)
    except Malformed as err:
        raise ElfError(elf.path, f"pointer to the unwind information: {err}") from err
    return vaddr, elf.read(vaddr, _MAX_EH_FRAME)


def _trampolines(
    elf: Elf, machine: Machine, segments: tuple[Segment, ...]
) -> Iterator[tuple[int, int]]:
    if elf.needed or sum(segment.filesz for segment in segments) > _MAX_SEARCHED:
        return
    for segment in segments:
        code = elf.read(segment.vaddr, segment.filesz)
        for pattern in machine.trampolines:
            at = code.find(pattern)
            if at >= 0:
                yield segment.vaddr + at, len(pattern)
