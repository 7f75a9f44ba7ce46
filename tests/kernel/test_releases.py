# SPDX-License-Identifier: Apache-2.0
"""Where blocks are freed is learnt from the frees of others, as the program counts them itself."""

from __future__ import annotations

import pytest
from harness.programs import SOURCES

OPTIONS = ("--json", "--no-syscalls", "--older", 0)


def release_of(final, function):
    (row,) = [s for s in final["heap"]["stacks"] if s["frames"][0]["symbol"] == function]
    return row, row["release"]


def line_of(text):
    lines = (SOURCES / "released.c").read_text().splitlines()
    (number,) = [n for n, line in enumerate(lines, 1) if text in line]
    return number


@pytest.mark.parametrize("how", ["launched", "attached", "by perf events"])
def test_the_place_of_most_frees(program, start, run_kwatch, how):
    if how == "launched":
        result = run_kwatch(*OPTIONS, "--", program("released"), "now").finish()
        answers, final = result.answers, result.final()
    else:
        target = start("released")
        methods = ["--perf-uprobes"] if how == "by perf events" else []
        kwatch = run_kwatch("--pid", target.pid, *OPTIONS, *methods)
        kwatch.attached()
        answers = target.go()
        final = kwatch.stop().final()
    row, release = release_of(final, "begin_request")
    assert row["blocks"] == answers["requests_forgotten"]
    assert (release["blocks"], release["of"]) == (answers["requests_done"],) * 2
    place = release["frames"][release["at"]]
    assert place["symbol"] == "request_done"
    assert place["line"] == line_of("/* here */")
    assert release["mean_lifetime_s"] * 1e6 == pytest.approx(answers["mean_us"], rel=0.2, abs=20)
    assert [frame["symbol"] for frame in release["frames"][:2]] == ["request_done", "main"]
    _, release = release_of(final, "open_connection")
    assert (release["blocks"], release["of"]) == (answers["closed"], answers["connections"])
    assert release["frames"][release["at"]]["symbol"] == "close_connection"


def test_no_stacks_of_frees_are_taken(program, run_kwatch):
    command = ("--", program("released"), "now")
    final = run_kwatch(*OPTIONS, "--releases", "never", *command).finish().final()
    assert {row["release"] for row in final["heap"]["stacks"]} == {None}
    assert final["heap"]["frees"] > 0
