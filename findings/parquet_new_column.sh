#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A recording is a folder of Parquet files, and its newer files have one more column. Three readers
# give three answers: DuckDB 2.0.1, pyarrow 26.0.1 and polars 2.1.0.
#
# The first file by name decides. If it is an old one, DuckDB and pyarrow drop the new column of all
# later files without a warning. If it is a new one, DuckDB fails, pyarrow fills the old rows with
# nulls. polars fails both ways. `union_by_name=true` makes DuckDB return everything.
#
# Seen:
#> first file lacks the column
#>   duckdb                ts
#>   duckdb union_by_name  ts, cpu
#>   pyarrow               ts
#>   polars                SchemaError
#> first file has the column
#>   duckdb                InvalidInputException
#>   duckdb union_by_name  ts, cpu
#>   pyarrow               ts, cpu
#>   polars                ColumnNotFoundError
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check duckdb==2.0.1 pyarrow==26.0.1 \
	polars==2.1.0 2>"$dir/pip" || {
	cat "$dir/pip" >&2
	exit 2
}

"$dir/venv/bin/python" - "$dir" <<'PY' | tee "$dir/seen"
import pathlib
import sys

import duckdb
import polars
import pyarrow
import pyarrow.dataset
import pyarrow.parquet

OLD = pyarrow.table({"ts": [1, 2]})
NEW = pyarrow.table({"ts": [3, 4], "cpu": [7, 8]})


def columns(read):
    try:
        return ", ".join(read())
    except Exception as error:
        return type(error).__name__


def show(title, first, second):
    folder = pathlib.Path(sys.argv[1], title.replace(" ", "-"))
    folder.mkdir()
    pyarrow.parquet.write_table(first, folder / "seg1.parquet")
    pyarrow.parquet.write_table(second, folder / "seg2.parquet")
    files = str(folder / "*.parquet")
    by_name = f"select * from read_parquet('{files}', union_by_name=true)"
    readers = {
        "duckdb": lambda: fetched(duckdb.sql(f"select * from '{files}'")),
        "duckdb union_by_name": lambda: fetched(duckdb.sql(by_name)),
        "pyarrow": lambda: pyarrow.dataset.dataset(folder).to_table().column_names,
        "polars": lambda: polars.read_parquet(files).columns,
    }
    print(title)
    for name, read in readers.items():
        print(f"  {name:21} {columns(read)}")


def fetched(relation):
    assert len(relation.fetchall()) == 4
    return relation.columns


show("first file lacks the column", OLD, NEW)
show("first file has the column", NEW, OLD)
PY

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
