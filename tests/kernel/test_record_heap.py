# SPDX-License-Identifier: Apache-2.0
"""`kwatch record --heap -k`: allocations, system calls and their stacks on one timeline."""

from __future__ import annotations

import duckdb

#: Which request each block that was not released belongs to: the last path before it.
REQUESTS_OF_LEAKS = """
with leaked as (
    select * from heap h where kind = 'alloc' and size = 1000 and not exists (
        from heap f where f.pid = h.pid and f.address = h.address and f.ts_ns > h.ts_ns
    )
)
select r.path, count(*), any_value(s.frames)
from leaked asof join requests r on leaked.tid = r.tid and leaked.ts_ns >= r.ts_ns
left join stacks s on s.pid = leaked.pid and s.stack = leaked.stack
group by r.path
"""


STACKS_OF_REQUESTS = "select frames from requests join stacks using (pid, stack)"


def tables(directory):
    connection = duckdb.connect()
    for table in ("syscalls", "heap", "stacks"):
        connection.sql(f"create view {table} as from '{directory}/{table}/*/*/*.parquet'")
    connection.sql("create view requests as from syscalls where path like '/requests/%'")
    return connection


def functions(frames):
    return [frame.split("+")[0] for frame in frames]


def test_the_requests_during_which_leaked_blocks_were_allocated(start, run_kwatch, tmp_path):
    target = start("requests")
    kwatch = run_kwatch("record", tmp_path / "calls", "--heap", "-k", "--pid", target.pid)
    kwatch.attached()
    reports, total = map(target.go().get, ("reports", "requests"))
    target.end()
    assert kwatch.finish().status == 0
    found = tables(tmp_path / "calls")
    ((path, blocks, frames),) = found.sql(REQUESTS_OF_LEAKS).fetchall()
    assert (path, blocks) == ("/requests/report", reports)
    assert functions(frames)[:3] == ["build_report", "handle", "main"]
    stacks = [functions(frames)[:3] for (frames,) in found.sql(STACKS_OF_REQUESTS).fetchall()]
    assert stacks == [["access", "handle", "main"]] * total
