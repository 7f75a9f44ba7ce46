# SPDX-License-Identifier: Apache-2.0
"""The code that recorded processes have mapped, with the build-ids of the files."""

from __future__ import annotations

import re
import subprocess

import duckdb
from harness.waiting import wait_until

#: The mapping of each call's code: the last one before its return.
PLACES = """
select s.comm, s.name, m.path
from syscalls s join mappings m on m.pid = s.pid and s.ip >= m.start and s.ip < m.stop
    and m.ts_ns <= s.ts_ns + coalesce(s.duration_ns, 0)
qualify row_number() over (partition by s.seq order by m.ts_ns desc) = 1
"""
COUNTS = f"""
select (select count(*) from syscalls where name <> 'execve'),
    (select count(*) from ({PLACES}) where name <> 'execve')
"""
SCRIPT = "(cat /etc/hostname); exec ls /etc/apt"


def tables(directory):
    connection = duckdb.connect()
    for table in ("syscalls", "mappings", "processes"):
        connection.sql(f"create view {table} as from '{directory}/{table}/*/*/*.parquet'")
    return connection


def build_id(path):
    notes = subprocess.run(["readelf", "-n", path], capture_output=True, text=True, check=True)
    return re.search(r"Build ID: (\w+)", notes.stdout)[1]


def test_every_call_is_made_by_code_that_is_known(run_kwatch, tmp_path):
    """Of short-lived processes, after forks and execs. Each program is the one it was."""
    result = run_kwatch("record", tmp_path / "run", "-f", "--", "sh", "-c", SCRIPT).finish()
    assert result.status == 0
    found = tables(tmp_path / "run")
    ((calls, placed),) = found.sql(COUNTS).fetchall()
    assert calls == placed > 100
    files = dict(found.sql("select distinct path, build_id from mappings").fetchall())
    assert all(files[path] == build_id(path) for path in files if path.startswith("/"))
    exits = f"select comm, path from ({PLACES}) where name = 'exit_group'"
    assert {comm for comm, path in found.sql(exits).fetchall() if "libc" in path} == {"cat", "ls"}


def test_each_segment_has_what_is_mapped(start, run_kwatch, tmp_path):
    """Also of a process that ran before, and maps nothing."""
    target = start("getppid", 2, 1009)
    run = tmp_path / "run"
    kwatch = run_kwatch("record", run, "--pid", target.pid, "--segment", "0.5")
    kwatch.attached()
    wait_until(lambda: len(list(run.glob("mappings/*/*/*.parquet"))) >= 2)
    kwatch.stop()
    files = f"read_parquet('{run}/mappings/*/*/*.parquet', filename = true)"
    sql = f"select path, count(distinct filename) as n from {files} group by path"
    by_path = dict(duckdb.sql(sql).fetchall())
    program = next(path for path in by_path if path.endswith("/getppid"))
    assert by_path[program] >= 2
