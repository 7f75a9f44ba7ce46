# SPDX-License-Identifier: Apache-2.0
"""A second run adds to the recording that is there, and says so."""

from __future__ import annotations

import json


def test_two_runs_in_one_directory(tmp_path, run_kwatch):
    run = tmp_path / "run"
    first, second = (run_kwatch("record", run, "--", "true").finish() for _ in range(2))
    assert (first.status, second.status) == (0, 0)
    said = f"kwatch: {run} has 1 segment already; this run adds more"
    assert [said in result.stderr for result in (first, second)] == [False, True]
    manifests = [json.loads(path.read_text()) for path in run.glob("segments/*/*/*.json")]
    assert len({each["run"] for each in manifests}) == len(manifests) == 2
    sql = "select count(*) as calls, count(distinct pid) as processes from syscalls"
    (line,) = run_kwatch("query", run, "--json", sql).finish().stdout
    assert json.loads(line) == {"calls": sum(each["calls"] for each in manifests), "processes": 2}
