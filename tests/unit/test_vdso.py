# SPDX-License-Identifier: Apache-2.0
"""The vdso of 64-bit processes, which kwatch reads from its own memory."""

from __future__ import annotations

import os

import pytest

from kwatch.errors import KwatchError
from kwatch.procfs import vdso
from kwatch.procfs.mappings import Mapping, read_mappings
from kwatch.procfs.vdso import is_vdso, read_vdso

VDSO_32 = Mapping(0xF7FC0000, 0xF7FC2000, 0, "[vdso]", 0, 0, True)


def test_the_vdso_is_an_elf_image_of_the_size_of_its_mapping():
    [own] = filter(is_vdso, read_mappings(os.getpid()))
    image = read_vdso()
    assert image is not None
    assert (image[:4], len(image)) == (b"\x7fELF", own.end - own.start)


def test_the_vdso_of_a_32_bit_process_is_another():
    assert not is_vdso(VDSO_32)


def fail(pid):
    raise KwatchError("cannot read the mappings")


@pytest.mark.parametrize("mappings", [lambda pid: [], lambda pid: [VDSO_32], fail])
def test_a_vdso_that_cannot_be_read_is_none(monkeypatch, mappings):
    """Nothing is mapped where that of a 32-bit process would be."""
    monkeypatch.setattr(vdso, "read_mappings", mappings)
    assert read_vdso() is None
