# SPDX-License-Identifier: Apache-2.0
"""Code far from the rest of its file takes no room between them in the unwind table."""

from __future__ import annotations

from kwatch.elf.elf import Segment
from kwatch.unwind.code_layout import Placement, omitted
from kwatch.unwind.machines import X86_64
from kwatch.unwind.table import table_of
from kwatch.unwind.unwind_info import UnwindInfo

NEAR, FAR = 0x401000, 0x40000000
CODE = Segment(0x1000, NEAR, 0x3210, 5)
HOT = Segment(0x8000, FAR + 0x10, 0x500, 5)


def test_near_segments_keep_their_distance():
    near = (CODE, Segment(0x8000, NEAR + (1 << 20), 0x500, 5))
    assert omitted(near) == [0, 0]
    assert Placement(near).place(NEAR + (1 << 20) + 7) == NEAR + (1 << 20) + 7


def test_a_large_distance_is_left_out():
    gap = FAR - (NEAR + 0x3200)
    assert omitted((HOT, CODE)) == [gap, 0]  # in any order, in whole blocks
    placement = Placement((HOT, CODE))
    assert placement.place(NEAR + 0x10) == NEAR + 0x10
    assert placement.place(FAR + 0x10) == NEAR + 0x3210
    assert placement.place(FAR) == placement.place(NEAR + 0x3210) == -1
    assert placement.end == NEAR + 0x3710


def test_the_bias_of_a_mapping_leads_to_the_rows_of_its_segment():
    table = table_of(UnwindInfo("far", X86_64, (CODE, HOT), b"", 0, (), None))
    address = 0x7F0000000000
    assert address - table.bias(address, address + 0x4000, 0x1000) == 0
    assert address + 0x10 - table.bias(address, address + 0x1000, 0x8000 - 0x10) == 0x3210
    assert table.in_file is None
