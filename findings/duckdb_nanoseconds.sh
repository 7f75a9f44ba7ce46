#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# DuckDB 2.0.1 keeps nanosecond timestamps of a Parquet file (pyarrow 26.0.1), and loses the
# nanoseconds when it subtracts them.
#
# The column is TIMESTAMP_NS and epoch_ns() is exact. The difference of two of them is an INTERVAL,
# which counts microseconds, and each timestamp is rounded to microseconds before the subtraction.
# Three events that are 501 ns apart are 1 us and 0 us apart. Arrow's duration[ns] arrives as a
# plain BIGINT, so its differences are exact.
#
# Seen:
#> type of the timestamps: TIMESTAMP_NS
#> epoch_ns:               [999, 1500, 2001]
#> their differences:      [501, 501]
#> difference as interval: [1000, 0] ns
#> type of the durations:  BIGINT
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check duckdb==2.0.1 pyarrow==26.0.1 \
	2>"$dir/pip" || {
	cat "$dir/pip" >&2
	exit 2
}

"$dir/venv/bin/python" - "$dir/t.parquet" <<'PY' | tee "$dir/seen"
import sys

import duckdb
import pyarrow
import pyarrow.parquet

times = [999, 1500, 2001]
columns = {
    "t": pyarrow.array(times, pyarrow.timestamp("ns")),
    "d": pyarrow.array(times, pyarrow.duration("ns")),
}
pyarrow.parquet.write_table(pyarrow.table(columns), sys.argv[1])


def column(expression):
    rows = duckdb.sql(f"select {expression} from '{sys.argv[1]}' order by t").fetchall()
    return [row[0] for row in rows]


nanoseconds = column("epoch_ns(t)")
gaps = column("t - lag(t) over (order by t)")[1:]
print("type of the timestamps:", column("typeof(t)")[0])
print("epoch_ns:              ", nanoseconds)
print("their differences:     ", [b - a for a, b in zip(nanoseconds, nanoseconds[1:])])
print("difference as interval:", [gap.microseconds * 1000 for gap in gaps], "ns")
print("type of the durations: ", column("typeof(d)")[0])
PY

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
