# SPDX-License-Identifier: Apache-2.0
"""The unwind table of one file: rows, an index into them, and the bias of a mapping."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from kwatch.elf.elf import Elf, ElfError, Segment
from kwatch.unwind.cfi_programs import MAX_ROWS, CfiPrograms, Ints
from kwatch.unwind.code_layout import Placement, omitted
from kwatch.unwind.eh_frame import read_entries
from kwatch.unwind.encoding import Malformed
from kwatch.unwind.machines import ARM64, Machine
from kwatch.unwind.unwind_info import UnwindInfo, read_unwind_info
from kwatch.wire.unwind_rows import BLOCK_SIZE, ROW, Blocks, RowKind, Rows

#: Bytes. A smaller gap between functions is padding, and belongs to the row before it.
_HOLE = 32
# In the kernel a block without rows takes as much room as a row. These limits are several times
# what any file has; without them, a few small files could take the room of all others.
_FREE_BLOCKS = 1 << 18
_BLOCKS_FOR_ROW = 64


@dataclass(frozen=True, eq=False)
class Table:
    """Rows as bpf/unwind_rows.h describes them, read-only.

    The pc of a row is the file's virtual address less `base`, and less what `omitted` says. `size`
    is the number of bytes from `base` to the last row, and never 0.
    """

    machine: Machine
    base: int
    size: int
    segments: tuple[Segment, ...]
    rows: Rows

    @cached_property
    def blocks(self) -> Blocks:
        """uint32[ceil(size / 256) + 1]: the row that applies at the start of each 256 bytes."""
        starts = np.arange(-(-self.size // BLOCK_SIZE) + 1) * BLOCK_SIZE
        found = np.searchsorted(self._pcs, starts, side="right") - 1
        blocks: Blocks = found.astype(np.uint32)
        return blocks

    @cached_property
    def _pcs(self) -> npt.NDArray[np.uint32]:
        return np.ascontiguousarray(self.rows["pc"])

    def bias(self, start: int, end: int, offset: int) -> int | None:
        """What to subtract from an address in a mapping to get a pc of `rows`; may be negative.

        The mapping is of this file, from `offset` on. None if it contains no code of the file.
        """
        best = max(self.segments, key=lambda each: _overlap(each, offset, end - start))
        if _overlap(best, offset, end - start) <= 0:
            return None
        gap = omitted(self.segments)[self.segments.index(best)]
        return start - offset + best.offset - best.vaddr + self.base + gap

    @property
    def in_file(self) -> tuple[int, int, int] | None:
        """Offset and size of the code in the file, and what to add to the address of offset 0 to
        get the bias. None if that number differs between parts of the code.
        """
        gaps = zip(self.segments, omitted(self.segments), strict=True)
        shifts = {each.offset - each.vaddr + self.base + gap for each, gap in gaps}
        if len(shifts) != 1:
            return None
        start = min(each.offset for each in self.segments)
        end = max(each.offset + each.filesz for each in self.segments)
        return start, end - start, shifts.pop()

    def rule_at(self, pc: int) -> int:
        """The rule that applies at a pc; `RowKind.NONE` outside the code."""
        if not 0 <= pc < self.size:
            return int(RowKind.NONE)
        key = self._pcs.dtype.type(pc)  # any other type converts all pcs first
        return int(self.rows["rule"][np.searchsorted(self._pcs, key, side="right") - 1])


def build_table(elf: Elf) -> Table:
    """The table of an open ELF file: one row, `NONE`, if it has no unwind information.

    Raises ElfError for a file that is damaged, has no code, or is of another machine.
    """
    return table_of(read_unwind_info(elf))


def build_table_from_memory(image: bytes, name: str) -> Table:
    """The table of an ELF image in memory, such as the vdso. Raises ElfError."""
    with Elf.in_memory(image, name) as elf:
        return build_table(elf)


def table_of(info: UnwindInfo) -> Table:
    try:
        base, rows = _rows(info)
    except Malformed as err:
        raise ElfError(info.path, f"unwind information: {err}") from err
    table = sound_table(info, base, rows)
    if table is None:
        raise ElfError(info.path, "invalid unwind information")
    return table


def sound_table(info: UnwindInfo, base: int, rows: Rows) -> Table | None:
    """The table of these rows, if they are as bpf/unwind_rows.h says: sorted, the first at 0, the
    last one `NONE`, all of known kinds. They must lie in the file's code, and not be too few.
    """
    if not len(rows):
        return None
    size = max(int(rows["pc"][-1]), 1)
    is_inside = info.base <= base and base + size <= info.base + info.size
    is_dense = size // BLOCK_SIZE <= _FREE_BLOCKS + _BLOCKS_FOR_ROW * len(rows)
    if is_inside and is_dense and not base % BLOCK_SIZE and _is_sorted(rows, info.machine):
        return Table(info.machine, base, size, info.segments, rows)
    return None


def _is_sorted(rows: Rows, machine: Machine) -> bool:
    pcs, kinds = rows["pc"], rows["rule"] & 15
    is_known = (kinds <= RowKind.SIGNAL) | ((kinds >= RowKind.ARM64) == (machine is ARM64))
    is_sorted = pcs[0] == 0 and bool((pcs[1:] > pcs[:-1]).all())
    return is_sorted and kinds[-1] == RowKind.NONE and bool(is_known.all())


def _overlap(segment: Segment, offset: int, size: int) -> int:
    end = min(segment.offset + segment.filesz, offset + size)
    return end - max(segment.offset, offset)


def _rows(info: UnwindInfo) -> tuple[int, Rows]:
    """The address of the first function's block, and the rows, whose pcs count from there."""
    programs = CfiPrograms(info.machine)
    starts, ends, numbers = _functions(info, programs)
    skipped = int(starts[0]) // BLOCK_SIZE * BLOCK_SIZE if len(starts) else 0
    starts, ends = starts - skipped, ends - skipped
    first, counts, offsets, rules = programs.rows()
    repeats = counts[numbers]
    if repeats.sum() > MAX_ROWS:
        raise Malformed(f"more than {MAX_ROWS} rows")
    before = np.cumsum(repeats) - repeats
    index = np.arange(int(repeats.sum())) + np.repeat(first[numbers] - before, repeats)
    pcs = np.repeat(starts, repeats) + offsets[index]
    is_inside = pcs < np.repeat(ends, repeats)
    holes = ends[np.append(starts[1:], np.int64(1) << 62) - ends >= _HOLE]
    pcs = np.concatenate([[0], pcs[is_inside], holes])
    none = int(RowKind.NONE)
    values = np.concatenate([[none], rules[index[is_inside]], np.full(len(holes), none)])
    return info.base + skipped, _assembled(pcs, values)


def _assembled(pcs: Ints, rules: Ints) -> Rows:
    """Sorts rows. Of equal pcs it keeps the last row, of neighbors with equal rules the first."""
    order = np.argsort(pcs, kind="stable")
    pcs, rules = pcs[order], rules[order]
    is_last = np.append(pcs[1:] != pcs[:-1], True)
    pcs, rules = pcs[is_last], rules[is_last]
    is_new = np.append(True, rules[1:] != rules[:-1])
    rows = np.empty(int(is_new.sum()), dtype=ROW)
    rows["pc"], rows["rule"] = pcs[is_new], rules[is_new]
    rows.flags.writeable = False
    return rows


def _functions(info: UnwindInfo, programs: CfiPrograms) -> tuple[Ints, Ints, Ints]:
    """(start, end, program) of every function, sorted, none overlapping the next.

    Addresses count from `info.base`.
    """
    base, size, place = info.base, info.size, Placement(info.segments).place
    found = []
    for vaddr, length, cie, instructions in read_entries(info.eh_frame, info.eh_frame_vaddr):
        start = place(vaddr) - base
        if 0 <= start < size and length > 0:  # sizes may be signed
            found.append((start, min(start + length, size), programs.add(cie, instructions)))
    signal = programs.add_rows([0], [int(RowKind.SIGNAL)])
    for vaddr, length in info.trampolines:
        # A handler returns to the first byte of the trampoline; the look-up is one byte lower.
        start = max(place(vaddr) - base - 1, 0)
        if not any(a <= start + 1 < b for a, b, _ in found):
            found.append((start, start + 1 + length, signal))
    functions = np.array(found, dtype=np.int64).reshape(-1, 3)
    functions = functions[np.argsort(functions[:, 0], kind="stable")]
    starts = functions[:, 0]
    is_last = np.append(starts[1:] != starts[:-1], True)[: len(starts)]
    functions = functions[is_last]
    starts, ends = functions[:, 0].copy(), functions[:, 1].copy()
    ends[:-1] = np.minimum(ends[:-1], starts[1:])
    return starts, ends, functions[:, 2]
