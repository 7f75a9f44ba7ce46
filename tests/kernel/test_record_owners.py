# SPDX-License-Identifier: Apache-2.0
"""Whose a recorded call is: the thread's user and its control group, without a filter."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

CALLS = "select uid, cgroup_id, count(*) as n from syscalls where name = 'getpgid' group by all"


@pytest.fixture
def hierarchy(tmp_path: Path) -> Iterator[Path]:
    """The hierarchy of version 2."""
    mounted = tmp_path / "cgroup"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "none", mounted], check=True)
    yield mounted
    subprocess.run(["umount", "-l", mounted], check=True)


def own_group(pid: int, hierarchy: Path) -> Path:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    path = next(line[3:] for line in lines if line.startswith("0::"))
    return hierarchy / path.lstrip("/")


@pytest.mark.parametrize("chosen", [(), ("-e", "trace=getpgid")], ids=["all calls", "one call"])
def test_a_thread_changes_its_user_and_is_moved(chosen, hierarchy, start, run_kwatch, tmp_path):
    """Also where neither call is traced."""
    target = start("owners")
    before, after = own_group(target.pid, hierarchy), hierarchy / "kwatch-test"
    after.mkdir()
    try:
        kwatch = run_kwatch("record", tmp_path / "calls", *chosen, "--pid", target.pid)
        kwatch.attached()
        target.go("moved")
        (after / "cgroup.procs").write_text(str(target.pid))
        groups = [group.stat().st_ino for group in (before, after)]
        target.go()
        target.end()
        assert kwatch.finish().status == 0
    finally:
        after.rmdir()
    duckdb.sql(f"create or replace view syscalls as from '{tmp_path}/calls/syscalls/*/*/*.parquet'")
    expected = {(0, groups[0], 5), (1234, groups[0], 5), (1234, groups[1], 7)}
    assert set(duckdb.sql(CALLS).fetchall()) == expected
