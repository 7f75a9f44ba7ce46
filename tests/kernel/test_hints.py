# SPDX-License-Identifier: Apache-2.0
"""What a block of a process that was never traced seems to be."""

from __future__ import annotations

import numpy as np
import pytest

from kwatch.reach.hints import Hints
from kwatch.reach.memory import TargetMemory
from kwatch.reach.regions import read_regions


@pytest.mark.needs("g++")
@pytest.mark.parametrize(
    "flags", [(), ("-s",), ("-static", "-s")], ids=["plain", "stripped", "static"]
)
def test_classes_are_named(program, start, flags):
    """Also without symbols."""
    target = start(program("classes", *flags))
    memory = TargetMemory(target.pid)
    hints = Hints(memory, read_regions(target.pid))
    names = ("square", "hidden", "plain", "text")
    numbers, types = hints.types(np.array([target.answers[name] for name in names], np.uint64))
    assert [types[number] for number in numbers.tolist()] == [
        *("shapes::Square", "(anonymous namespace)::Hidden"),
        *("", ""),
    ]
    assert hints.text(target.answers["text"], 200) == "a line of text"
    assert hints.text(target.answers["text"], 6) == "a line"
    assert hints.text(target.answers["plain"], 48) == ""
    memory.close()
