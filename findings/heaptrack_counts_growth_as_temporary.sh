#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# heaptrack 1.4.0-2 (Debian 12): one block that grows by realloc() counts as that many allocations,
# nearly all of them "temporary".
#
# heaptrack defines a temporary allocation as one that is freed before the next one is made, and
# records a realloc() as a free and an allocation, also when the block stays where it is. A buffer
# that grows 1,000 times, moves twice and lives to the end shows 1,000 temporary allocations. (Of
# the 1,002 allocations, one is libstdc++'s, which heaptrack brings along.)
#
# Seen:
#> allocations: 1002
#> temporary allocations: 1000
#> leaked allocations: 1
#> times the block moved: 2
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download heaptrack=1.4.0-2 \
	libheaptrack=1.4.0-2 libunwind8=1.6.2-3 libboost-filesystem1.74.0=1.74.0+ds1-21 \
	libboost-iostreams1.74.0=1.74.0+ds1-21 libboost-program-options1.74.0=1.74.0+ds1-21)
for package in "$dir"/*.deb; do
	dpkg -x "$package" "$dir/root"
done

cat >"$dir/grow.c" <<'C'
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

static char *block;

int main(void)
{
	uintptr_t first, moves = 0;

	block = malloc(64);
	first = (uintptr_t)block;
	for (int i = 1; i <= 1000; i++) {
		block = realloc(block, 64 + 16 * i);
		moves += (uintptr_t)block != first;
		first = (uintptr_t)block;
	}
	return moves;
}
C
cc -O0 -o "$dir/grow" "$dir/grow.c"

export LD_LIBRARY_PATH
LD_LIBRARY_PATH=$(echo "$dir"/root/usr/lib/*-linux-gnu)
status=0
"$dir/root/usr/bin/heaptrack" -o "$dir/grown" "$dir/grow" >"$dir/log" 2>&1 || status=$?
{
	sed -n 's/^[[:space:]]*\(.*allocations:\)[[:space:]]*/\1 /p' "$dir/log"
	echo "times the block moved: $status"
} | tee "$dir/seen"

sed -n 's/^#> //p' "$0" | sort | diff - <(sort "$dir/seen")
