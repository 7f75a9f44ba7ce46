# SPDX-License-Identifier: Apache-2.0
"""What the kernel's records say of what processes map."""

from __future__ import annotations

from kwatch.kernel.control_ring import MappingRecord
from kwatch.lifecycle import mapping_of


def mapped(path: str, start: int = 0x1000, time_ns: int = 1) -> MappingRecord:
    return MappingRecord(time_ns, 7, start, start + 0x1000, 0, (8, 1), 42, path)


def test_a_file_that_was_unlinked_before_it_was_mapped():
    mapping = mapping_of(mapped("/tmp/plugin.so (deleted)"))
    assert (mapping.path, mapping.deleted) == ("/tmp/plugin.so", True)


def test_a_file_that_is_there():
    mapping = mapping_of(mapped("/tmp/plugin.so"))
    assert (mapping.path, mapping.deleted) == ("/tmp/plugin.so", False)
