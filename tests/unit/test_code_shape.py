# SPDX-License-Identifier: Apache-2.0
"""What the code of a function shows, as compilers write it."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from harness.programs import SOURCES

from kwatch.elf.elf import Elf
from kwatch.elf.identities import Identities
from kwatch.ownership.code import Code
from kwatch.ownership.code_shape import shape
from kwatch.probes.instructions import straight_line

#: (the size comes from the caller, the block is returned); None: the compiler decides.
SHAPES = {
    "obtain": (True, True),
    "obtain_counted": (True, True),
    "obtain_aligned": (True, True),
    "obtain_filled": (True, True),
    "obtain_copy": (True, True),
    "new_node": (False, True),
    "keep_more": (None, False),
}


def code_of(elf, name):
    """Around the first call in a function."""
    function = elf.functions([name])[name]
    for instruction in straight_line(elf, function.vaddr):
        if instruction.mnemonic in ("call", "bl"):
            after = instruction.address + instruction.size
            break
    data = elf.read(function.vaddr, 2048)
    identities = Identities(elf, keeps_symbols=True)
    return Code(elf.machine, function.vaddr, data, function.vaddr, after, identities)


@pytest.mark.parametrize(
    ("compiler", "linkage"),
    [("gcc", "-fplt"), ("gcc", "-fno-plt"), ("aarch64-linux-gnu-gcc", "-fplt")],
)
@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2"])
def test_functions_that_allocate_for_their_callers(tmp_path, compiler, level, linkage):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    program = tmp_path / "wraps"
    source = SOURCES / "wraps.c"
    subprocess.run(
        [compiler, level, linkage, "-fno-ipa-sra", f"-I{SOURCES}", "-o", program, source],
        check=True,
    )
    with Elf.open(str(program)) as elf:
        for name, (sized, returned) in SHAPES.items():
            found = shape(code_of(elf, name))
            assert found.returns_block is returned, name
            assert sized is None or found.sized_by_caller is sized, name
        # A tail call leaves it unknown.
        assert not shape(code_of(elf, "end_of_copy")).returns_block


def test_code_that_cannot_be_read():
    assert shape(Code(62, 4096, b"", None, 5000)) == (None, None)
    assert shape(Code(62, 4096, b"\xff\xff", 4096, 4097)) == (None, None)
