#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# numpy 2.4.6 compares uint64 and int64 exactly with `==`, and through float64 in searchsorted,
# intersect1d and maximum.
#
# The kernel's records hold times as uint64, other sources as int64. To look up one in the other,
# numpy converts both to float64, which has 53 bits: times in nanoseconds since 1970 are then
# multiples of 256 ns. Four events 40 ns apart become one, without a warning. The look-up is right
# when both arrays have the same type.
#
# Seen:
#> table == look up           [True, True, True, True]
#> searchsorted, one type     [0, 1, 2, 3]
#> searchsorted, two types    [0, 0, 0, 0]
#> intersect1d, one type      []
#> intersect1d, two types     [0, 0, 0]
#> maximum, two types         float64
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 2>"$dir/pip" || {
	cat "$dir/pip" >&2
	exit 2
}

"$dir/venv/bin/python" -W error - <<'PY' | tee "$dir/seen"
import numpy

BASE = 1_764_000_000_000_000_000
table = numpy.arange(BASE, BASE + 160, 40, dtype=numpy.uint64)
wanted = table.astype(numpy.int64)


def common(a, b):
    return [int(value) - BASE for value in numpy.intersect1d(a, b)]


print("table == look up          ", (table == wanted).tolist())
print("searchsorted, one type    ", numpy.searchsorted(table, wanted.astype("u8")).tolist())
print("searchsorted, two types   ", numpy.searchsorted(table, wanted).tolist())
print("intersect1d, one type     ", common(table[:2], wanted[2:].astype("u8")))
print("intersect1d, two types    ", common(table[:2], wanted[2:]))
print("maximum, two types        ", numpy.maximum(table, wanted).dtype)
PY

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
