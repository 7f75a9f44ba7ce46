# SPDX-License-Identifier: Apache-2.0
"""A leak is reported with its address, its size and the line that allocated it."""

from __future__ import annotations

import pytest
from harness.blocks import named_blocks
from harness.reach import differences, leaks, searched


def blocks_of(final):
    """(address, size, file, line) of each block in a report."""
    for stack in final["heap"]["stacks"]:
        frame = next(frame for frame in stack["frames"] if frame["file"])
        where = frame["file"].rpartition("/")[2], frame["line"]
        for address, size in zip(stack["addresses"], stack["sizes"], strict=True):
            yield int(address, 16), size, *where


def printed_blocks(lines, answers):
    """The same of the blocks that the program still has."""
    for block in named_blocks(lines):
        line = answers[f"{block.name}_line"]
        yield block.address, block.size, "leak_places.c", line


@pytest.fixture
def launched(program, run_kwatch):
    result = run_kwatch("--json", "--no-syscalls", "--", program("leak_places"), "now").finish()
    assert result.status == 0
    return result


def test_each_block_has_its_line(launched):
    expected = set(printed_blocks(launched.stdout, launched.answers))
    assert len(expected) == 10
    assert set(blocks_of(launched.final())) == expected


def test_leaks_of_a_running_program(start):
    target = start("leak_places")
    target.go()
    blocks = named_blocks(target.printed)
    assert list(differences(blocks, searched(target.pid), {})) == []
    report = leaks(target.pid)
    lost = {block.address for block in blocks if block.expected == "definite"}
    groups = [group for group in report["heap"]["groups"] if group["class"] == "definite"]
    assert {int(address, 16) for group in groups for address in group["addresses"]} == lost
    assert report["verdict"] == "leak"
