# SPDX-License-Identifier: Apache-2.0
"""The wrappers of programs are found, by stacks, by code, or as the user says."""

from __future__ import annotations

import pytest

OPTIONS = ("--json", "--no-syscalls", "--wrappers", "--older", 0)
USERS = 5


def final_of(run_kwatch, path, *arguments, options=()):
    return run_kwatch(*OPTIONS, *options, "--", path, *arguments, "now").finish().final()


def test_stacks_show_wrappers(program, run_kwatch):
    final = final_of(run_kwatch, program("wraps"))
    found = {row["function"]: row for row in final["wrappers"]}
    assert set(found) == {"obtain", "obtain_counted"}
    assert found["obtain"] == {
        "function": "obtain",
        "module": final["process"]["exe"],
        "callers": USERS + 1,
        "sizes": 2 * USERS,
        "blocks": 2 * USERS,
        "confidence": 1.0,
        "evidence": "stacks",
    }


@pytest.mark.parametrize(
    ("mode", "options", "expected"),
    [
        ("few", (), {"obtain": "code", "obtain_counted": "code"}),
        ("filled", (), {"obtain_filled": "code"}),
        ("few", ("--no-wrapper", "obtain"), {}),
        ("node", (), {}),
        ("node", ("--wrapper", "new_node"), {"new_node": "user"}),
    ],
)
def test_one_stack(program, run_kwatch, mode, options, expected):
    final = final_of(run_kwatch, program("wraps"), mode, options=options)
    assert {row["function"]: row["evidence"] for row in final["wrappers"]} == expected
    assert [row["owner"] for row in final["heap"]["stacks"]] == ["program"]


def test_options_that_are_in_vain(run_kwatch, program):
    for options in (["--no-stacks"], ["--wrapper", "f", "--no-wrapper", "f"]):
        result = run_kwatch(*OPTIONS, *options, "--", program("wraps"), "now").finish()
        assert result.status == 2
