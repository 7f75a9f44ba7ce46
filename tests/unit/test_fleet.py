# SPDX-License-Identifier: Apache-2.0
"""Programs that know nothing of kwatch read recordings of several hosts as one table."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import duckdb
import pyarrow.dataset as ds
import pytest
from harness.recordings import call, opened, record

from kwatch.cli import main

HOSTS = {"web1": 3, "web2": 5, "db1": 7}
EXPECTED = sorted(
    [host, name, calls, errors]
    for host, opens in HOSTS.items()
    for name, calls, errors in (("openat", opens, opens - 1), ("read", 1, 0))
)
QUERY = "SELECT host, name, count(*) AS calls, count(error) AS errors FROM {} GROUP BY host, name"

SPARK = """
import json, sys
from pyspark.sql import SparkSession

builder = SparkSession.builder.master("local[1]")
options = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "1"}
options |= dict.fromkeys(["spark.driver.host", "spark.driver.bindAddress"], "127.0.0.1")
for name, value in options.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
calls = spark.read.parquet(sys.argv[1] + "/syscalls")
calls.createOrReplaceTempView("syscalls")
rows = [list(row) for row in spark.sql(sys.argv[2]).collect()]
first = calls.where("path = '/é'").select("ts_ns", "arg0", "ret", "data", "day").first()
print(json.dumps([sorted(rows), [*first[:3], first[3].decode(), str(first[4])]]))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Recordings of three hosts, copied into one directory."""
    folder = tmp_path_factory.mktemp("fleet")
    for host, opens in HOSTS.items():
        batch = [opened("/é".encode()), *[opened(b"/a", fd=-2)] * (opens - 1), call("read", 3)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kwatch.recording.recorder.host_name", lambda host=host: host)
            record(folder / host, batch)
        shutil.copytree(folder / host, folder / "all", dirs_exist_ok=True)
    return folder / "all"


def test_duckdb(tree):
    source = f"read_parquet('{tree}/syscalls/*/*/*.parquet', hive_partitioning = true)"
    found = duckdb.sql(QUERY.format(source)).fetchall()
    assert sorted(map(list, found)) == EXPECTED


def test_arrow(tree):
    table = ds.dataset(tree / "syscalls", partitioning="hive").to_table()
    counts = table.group_by(["host", "name"]).aggregate([([], "count_all"), ("error", "count")])
    rows = counts.select(["host", "name", "count_all", "error_count"]).to_pylist()
    assert sorted(list(row.values()) for row in rows) == EXPECTED


@pytest.mark.needs("pyspark")
def test_spark(tree):
    """It reads all types, encodings and folders that a recorder writes."""
    command = [sys.executable, "-c", SPARK, str(tree), QUERY.format("syscalls")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    rows, first = json.loads(done.stdout.splitlines()[-1])
    assert rows == EXPECTED
    source = f"read_parquet('{tree}/syscalls/*/*/*.parquet', hive_partitioning = true)"
    columns = "ts_ns, arg0, ret, decode(data), day::VARCHAR"
    found = duckdb.sql(f"SELECT {columns} FROM {source} WHERE path = '/é' AND ts_ns = {first[0]}")
    assert list(found.fetchall()[0]) == first


def test_query(tree, capsys):
    assert main(["query", str(tree), "--json", QUERY.format("syscalls")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(list(json.loads(line).values()) for line in lines) == EXPECTED
