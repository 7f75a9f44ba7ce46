# SPDX-License-Identifier: Apache-2.0
"""Where the functions of a file begin, as its search table for exceptions says."""

from __future__ import annotations

import numpy as np

from kwatch.elf.elf import Elf, ElfError
from kwatch.elf.layout import PT_GNU_EH_FRAME

_MAX_FUNCTIONS = 4 << 20
_HEADER = 12  # bytes of .eh_frame_hdr before its table
#: Its version; a pointer and a count of 4 bytes; pairs of 4 bytes, relative to the header.
_SORTED_TABLE = (b"\x01", b"\x03\x3b")


def function_starts(elf: Elf) -> list[int]:
    """The addresses that the search table for exceptions lists; empty if the file has none.

    `.eh_frame_hdr`: LSB Core, "Exception Frame Header".
    """
    header = elf.address_of_segment(PT_GNU_EH_FRAME)
    if header is None:
        return []
    try:
        head = elf.read(header, _HEADER)
        if (head[:1], head[2:4]) != _SORTED_TABLE or len(head) < _HEADER:
            return []
        count = int.from_bytes(head[8:12], "little")
        if count > _MAX_FUNCTIONS:
            return []
        table = np.frombuffer(elf.read(header + _HEADER, 8 * count), "<i4")[::2]
    except (ElfError, ValueError):
        return []  # damaged; paths then end at returns and jumps only
    starts: list[int] = np.sort(table.astype(np.int64) + header).tolist()
    return starts
