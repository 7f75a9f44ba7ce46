#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# DuckDB 2.0.1 evaluates masks and flags differently from C, without an error.
#
# `0x40` in SQL is not a number. It is the number 0 with the column name `x40`, so a mask is 0 for
# every row. It is a syntax error only where no column name may follow. The string '0x40' does
# convert to 64. `^` is the power, not exclusive or. `|` and `&` have the same precedence, so
# `1 | 2 & 4` is `(1 | 2) & 4`; C gives 1.
#
# Seen:
#> select 255 & 0x40                   x40: 0
#> select 1 where 255 & 0x40 != 0      Parser Error: syntax error at or near "x40"
#> select '0x40'::int as n             n: 64
#> select 255 & 64 as n                n: 64
#> select 5 ^ 1 as n                   n: 5.0
#> select xor(5, 1) as n               n: 4
#> select 1 | 2 & 4 as n               n: 0
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check duckdb==2.0.1 2>"$dir/pip" || {
	cat "$dir/pip" >&2
	exit 2
}

"$dir/venv/bin/python" - <<'PY' | tee "$dir/seen"
import duckdb

for query in (
    "select 255 & 0x40",
    "select 1 where 255 & 0x40 != 0",
    "select '0x40'::int as n",
    "select 255 & 64 as n",
    "select 5 ^ 1 as n",
    "select xor(5, 1) as n",
    "select 1 | 2 & 4 as n",
):
    try:
        result = duckdb.sql(query)
        seen = f"{result.columns[0]}: {result.fetchall()[0][0]}"
    except duckdb.ParserException as error:
        seen = str(error).splitlines()[0]
    print(f"{query:35} {seen}")
PY

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
