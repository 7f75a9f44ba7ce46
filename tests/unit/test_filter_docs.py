# SPDX-License-Identifier: Apache-2.0
"""docs/filters.md: its examples are valid, and what it quotes is what kwatch prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kwatch.syscalls.filter.error import FilterError
from kwatch.syscalls.filter.explain import explain
from kwatch.syscalls.filter.fields import FIELDS, Operator
from kwatch.syscalls.filter.in_kernel import MAX_TESTS
from kwatch.syscalls.filter.parser import parse

PAGE = (Path(__file__).parents[2] / "docs" / "filters.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
EXAMPLES = re.findall(r"^    (.*)$", re.sub(r"(?ms)^```.*?^```$", "", PAGE), re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_filters(example: str) -> None:
    parse(example)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.startswith("filter:")])
def test_explanations_are_what_kwatch_prints(block: str) -> None:
    assert explain(parse(block.splitlines()[0].removeprefix("filter:"))) == block.rstrip()


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.startswith("kwatch:")])
def test_errors_are_what_kwatch_prints(block: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(block.splitlines()[1].strip())

    assert f"kwatch: {caught.value}\n  {caught.value.hint}" == block.rstrip()


def test_the_page_has_all_of_the_language() -> None:
    assert len(EXAMPLES) >= 8
    assert len(BLOCKS) == 4
    assert f"{MAX_TESTS} values" in PAGE
    operators = PAGE.partition("## Operators")[2].partition("## Values")[0]
    assert all(f"`{each.value}" in operators for each in Operator)
    assert all(f"| `{name}` |" in PAGE for name in FIELDS)
