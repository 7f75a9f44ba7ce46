#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# psutil 7.2.2: Process.create_time() is up to a second too early, although it has two decimals.
#
# /proc/PID/stat counts the start from the boot in ticks of 10 ms. psutil adds the time of the boot
# from /proc/stat, whose `btime` is cut to whole seconds. All processes are wrong by the same part of
# a second, so that a child seems to begin before its parent has asked for it, and joins with the
# times of logs or traces fail. CLOCK_REALTIME less CLOCK_BOOTTIME is the time of the boot without
# that error.
#
# Seen:
#> boot_time() is a whole number: True
#> create_time() is early by the part that was cut: True
#> with the clocks' difference it is right within two ticks: True
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check psutil==7.2.2 2>"$dir/pip" || {
	cat "$dir/pip" >&2
	exit 2
}

"$dir/venv/bin/python" -W error - <<'PY' | tee "$dir/seen"
import subprocess
import time

import psutil

boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
cut = boot - psutil.boot_time()
before = time.time()
with subprocess.Popen(["sleep", "60"]) as child:
    after = time.time()
    created = psutil.Process(child.pid).create_time()
    child.kill()

print(f"boot_time() is a whole number: {psutil.boot_time() % 1 == 0 and 0 <= cut < 1}")
early = before - cut - 0.02 <= created <= after - cut + 0.02
print(f"create_time() is early by the part that was cut: {early}")
right = before - 0.02 <= created + cut <= after + 0.02
print(f"with the clocks' difference it is right within two ticks: {right}")
PY

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
