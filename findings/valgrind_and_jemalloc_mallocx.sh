#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# valgrind 3.19.0-1 (Debian 12) reports an error in a jemalloc 5.3.0-1 program that has none, and
# misses the leak of the same program.
#
# jemalloc's free() takes blocks of its mallocx(). valgrind replaces malloc and free in every
# library and does not replace mallocx. free() then gets an address that valgrind did not give out
# ("Invalid free"), and blocks of mallocx() that are really lost appear in no summary.
#
# Seen:
#> freed:  Invalid free() / delete / delete[] / realloc()
#> freed:  ERROR SUMMARY: 3 errors from 1 contexts (suppressed: 0 from 0)
#> freed:  All heap blocks were freed -- no leaks are possible
#> leaked: ERROR SUMMARY: 0 errors from 0 contexts (suppressed: 0 from 0)
#> leaked: All heap blocks were freed -- no leaks are possible
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download libjemalloc2=5.3.0-1 \
	valgrind=1:3.19.0-1)
for package in "$dir"/*.deb; do
	dpkg -x "$package" "$dir/root"
done

cat >"$dir/blocks.c" <<'C'
#include <stdlib.h>

void *mallocx(size_t size, int flags);

int main(int argc, char **argv)
{
	for (int i = 0; i < 3; i++) {
		char *block = mallocx(100, 0);
		if (!block)
			return 1;
		block[0] = 1;
		if (argc == 1)
			free(block);
	}
	return 0;
}
C
library=$(echo "$dir"/root/usr/lib/*-linux-gnu/libjemalloc.so.2)
cc -O0 -o "$dir/blocks" "$dir/blocks.c" "$library" -Wl,-rpath,"$(dirname "$library")"

check() {
	local title=$1
	shift
	VALGRIND_LIB=$dir/root/usr/libexec/valgrind "$dir/root/usr/bin/valgrind" --leak-check=full \
		"$dir/blocks" "$@" 2>&1 |
		sed -n "s/^==[0-9]*== \(Invalid\|All heap\|ERROR SUMMARY\)/$title \1/p" |
		sort -r
}
{
	check 'freed: '
	check 'leaked:' leak
} | tee "$dir/seen"

sed -n 's/^#> //p' "$0" | sort | diff - <(sort "$dir/seen")
