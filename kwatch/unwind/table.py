# SPDX-License-Identifier: Apache-2.0
"""The unwind table of one file: rows, an index into them, and where mappings put them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from kwatch.elf.elf import Elf, ElfError, Segment
from kwatch.unwind.cfi_programs import MAX_ROWS, Ints, Programs
from kwatch.unwind.eh_frame import read_entries
from kwatch.unwind.encoding import Malformed
from kwatch.unwind.image import Image, read_image
from kwatch.unwind.machines import ARM64, Machine
from kwatch.wire.unwind_rows import BLOCK_SIZE, ROW, Blocks, RowKind, Rows

#: Between functions, padding of less belongs to the row before it: nothing is executed there.
_HOLE = 32
# A block without rows takes as much of the kernel's room as a row. What this allows is several
# times what any file has; beyond it, a few small files would leave no room for others.
_FREE_BLOCKS = 1 << 18
_BLOCKS_FOR_ROW = 64


@dataclass(frozen=True, eq=False)
class Table:
    """Rows as bpf/unwind_rows.h describes them, read-only.

    A row's pc is the file's virtual address less `base`. `size` is that of the code from there to
    the last row, in bytes, and never 0.
    """

    machine: Machine
    base: int
    size: int
    segments: tuple[Segment, ...]
    rows: Rows

    @cached_property
    def blocks(self) -> Blocks:
        """uint32[ceil(size / 256) + 1]: the row that holds at the start of each 256 bytes."""
        starts = np.arange(-(-self.size // BLOCK_SIZE) + 1) * BLOCK_SIZE
        found = np.searchsorted(self._pcs, starts, side="right") - 1
        blocks: Blocks = found.astype(np.uint32)
        return blocks

    @cached_property
    def _pcs(self) -> npt.NDArray[np.uint32]:
        return np.ascontiguousarray(self.rows["pc"])

    def bias(self, start: int, end: int, offset: int) -> int | None:
        """What to take from an address in a mapping to get a pc of `rows`; it may be negative.

        The mapping is of this file, from `offset` on. None if it holds none of the file's code.
        """
        best = max(self.segments, key=lambda each: _overlap(each, offset, end - start))
        if _overlap(best, offset, end - start) <= 0:
            return None
        return start - offset + best.offset - best.vaddr + self.base

    @property
    def in_file(self) -> tuple[int, int, int] | None:
        """Offset and size of the code in the file, and what is to be added to the address of offset
        0 for the bias; None if no such number holds for all of the code.
        """
        shifts = {each.offset - each.vaddr + self.base for each in self.segments}
        if len(shifts) != 1:
            return None
        start = min(each.offset for each in self.segments)
        end = max(each.offset + each.filesz for each in self.segments)
        return start, end - start, shifts.pop()

    def rule_at(self, pc: int) -> int:
        """The rule that holds at a pc; `RowKind.NONE` outside the code."""
        if not 0 <= pc < self.size:
            return int(RowKind.NONE)
        key = self._pcs.dtype.type(pc)  # of another type, all pcs would be converted first
        return int(self.rows["rule"][np.searchsorted(self._pcs, key, side="right") - 1])


def build_table(elf: Elf) -> Table:
    """The table of an open ELF file. Without unwind information it is one row, `NONE`.

    Raises ElfError for a file that is damaged, has no code, or is of another machine.
    """
    return table_of(read_image(elf))


def build_table_from_memory(image: bytes, name: str) -> Table:
    """The table of an ELF image as it is mapped, such as the vdso; raises ElfError."""
    with Elf.in_memory(image, name) as elf:
        return build_table(elf)


def table_of(image: Image) -> Table:
    try:
        base, rows = _rows(image)
    except Malformed as err:
        raise ElfError(image.path, f"unwind information: {err}") from err
    table = sound_table(image, base, rows)
    if table is None:
        raise ElfError(image.path, "unwind information of which no table can be made")
    return table


def sound_table(image: Image, base: int, rows: Rows) -> Table | None:
    """The table of these rows, if they are what bpf/unwind_rows.h promises: sorted, from 0 on,
    ended by `NONE`, of known kinds; if they lie in the image's code, and are not too few for it.
    """
    if not len(rows):
        return None
    size = max(int(rows["pc"][-1]), 1)
    is_inside = image.base <= base and base + size <= image.base + image.size
    is_dense = size // BLOCK_SIZE <= _FREE_BLOCKS + _BLOCKS_FOR_ROW * len(rows)
    if is_inside and is_dense and not base % BLOCK_SIZE and _is_sorted(rows, image.machine):
        return Table(image.machine, base, size, image.segments, rows)
    return None


def _is_sorted(rows: Rows, machine: Machine) -> bool:
    pcs, kinds = rows["pc"], rows["rule"] & 15
    is_known = (kinds <= RowKind.SIGNAL) | ((kinds >= RowKind.ARM64) == (machine is ARM64))
    is_sorted = pcs[0] == 0 and bool((pcs[1:] > pcs[:-1]).all())
    return is_sorted and kinds[-1] == RowKind.NONE and bool(is_known.all())


def _overlap(segment: Segment, offset: int, size: int) -> int:
    end = min(segment.offset + segment.filesz, offset + size)
    return end - max(segment.offset, offset)


def _rows(image: Image) -> tuple[int, Rows]:
    """The rows, and the address that their pcs count from: where the first function's block is."""
    programs = Programs(image.machine)
    starts, ends, numbers = _functions(image, programs)
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
    return image.base + skipped, _assembled(pcs, values)


def _assembled(pcs: Ints, rules: Ints) -> Rows:
    """Sorted; of rows with the same pc the last, of neighbours with the same rule the first."""
    order = np.argsort(pcs, kind="stable")
    pcs, rules = pcs[order], rules[order]
    is_last = np.append(pcs[1:] != pcs[:-1], True)
    pcs, rules = pcs[is_last], rules[is_last]
    is_new = np.append(True, rules[1:] != rules[:-1])
    rows = np.empty(int(is_new.sum()), dtype=ROW)
    rows["pc"], rows["rule"] = pcs[is_new], rules[is_new]
    rows.flags.writeable = False
    return rows


def _functions(image: Image, programs: Programs) -> tuple[Ints, Ints, Ints]:
    """(start, end, program) of every function, sorted, none overlapping the next.

    Addresses count from the image's base.
    """
    base, size = image.base, image.size
    found = []
    for start, length, cie, instructions in read_entries(image.eh_frame, image.eh_frame_vaddr):
        start -= base
        if 0 <= start < size and length > 0:  # some encodings of sizes are signed
            found.append((start, min(start + length, size), programs.add(cie, instructions)))
    signal = programs.add_rows([0], [int(RowKind.SIGNAL)])
    for vaddr, length in image.trampolines:
        # A handler returns to the trampoline's first byte, and is looked up one byte before it.
        start = max(vaddr - base - 1, 0)
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
