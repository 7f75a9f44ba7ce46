# SPDX-License-Identifier: Apache-2.0
"""What tools/unwind_check takes for a failure."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "unwind_check"


@pytest.mark.parametrize(
    ("counts", "status", "why"),
    [
        ({"exact": 995, "truncated": 4, "further": 1}, 0, []),
        ({"exact": 995, "no event": 1000}, 0, []),
        ({}, 0, ["nothing was compared"]),
        ({"no event": 9}, 0, ["nothing was compared"]),
        ({"exact": 9, "lost": 1}, 0, ["1 of 10 stacks are lost"]),
        ({"exact": 9, "wrong": 1}, 0, ["1 of 10 stacks are wrong"]),
        ({"exact": 994, "truncated": 6}, 0, ["6 of 1000 stacks are truncated"]),
        ({"exact": 9}, 127, ["ended with status 127"]),
    ],
)
def test_what_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, counts: dict[str, int], status: int, why: list[str]
) -> None:
    monkeypatch.syspath_prepend(TOOL)
    from programs import Checked
    from result import Result, faults

    result = Result(Counter(counts), status=status)
    assert list(faults(Checked("bash", "bash", "bash"), result)) == why


def test_a_program_may_be_known_for_its_truncated_stacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(TOOL)
    from programs import programs
    from result import Result, faults

    failing = {
        program.name
        for program in programs(tmp_path)
        if list(faults(program, Result(Counter(truncated=9))))
    }
    assert "Go with cgo" not in failing
    assert len(failing) > 10
