#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# numpy 2.4.6 copies arrays of structures member by member, also when source and target have the
# same packed type.
#
# A trace is often read as an array of structures. copy(), concatenate() and an index by an array or
# a mask then take 4 to 24 times as long as for the same bytes seen as one opaque member (`V176`),
# whose copy is one of memory. A view of the result gives the members back. The type here has 12
# members and 176 bytes, as a record of a system call may have.
#
# Seen:
#> copy         as structures at least 6 times as long: True
#> take         as structures at least 6 times as long: True
#> mask         as structures at least 3 times as long: True
#> concatenate  as structures at least 6 times as long: True
#> same bytes   True
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 2>"$dir/pip" || {
	cat "$dir/pip" >&2
	exit 2
}

"$dir/venv/bin/python" -W error - <<'PY' | tee "$dir/seen"
import time

import numpy

RECORD = numpy.dtype(
    [
        *(("type", "u1"), ("abi", "u1"), ("nr", "u2"), ("tid", "u4"), ("time_ns", "u8")),
        *(("result", "i8"), ("arguments", "u8", 6), ("ip", "u8"), ("comm", "S16")),
        *(("pieces", "u2", 28), ("cgroup", "u8"), ("stack", "u8", 2)),
    ]
)
records = numpy.zeros(16_384, RECORD)
opaque = records.view(f"V{RECORD.itemsize}")
order = numpy.arange(len(records))[::-1].copy()
mask = numpy.ones(len(records), bool)

ACTIONS = {
    "copy": (6, lambda a: a.copy()),
    "take": (6, lambda a: a[order]),
    "mask": (3, lambda a: a[mask]),
    "concatenate": (6, lambda a: numpy.concatenate([a[:8000], a[8000:]])),
}


def fastest(action, array):
    times = []
    for _ in range(40):
        start = time.perf_counter()
        action(array)
        times.append(time.perf_counter() - start)
    return min(times)


for name, (times, action) in ACTIONS.items():
    slower = fastest(action, records) >= times * fastest(action, opaque)
    print(f"{name:12} as structures at least {times} times as long: {slower}")
print("same bytes  ", opaque[order].view(RECORD).tobytes() == records[order].tobytes())
PY

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
