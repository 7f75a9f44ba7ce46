#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A program with a preloaded allocator: jemalloc 5.3.0-1, mimalloc 2.0.9+ds-2 and gperftools'
# tcmalloc 2.10-1 (Debian 12) beside glibc 2.36-9+deb12u14.
#
# realloc(p, 0) frees the block and returns NULL with glibc, tcmalloc and jemalloc. With mimalloc it
# returns a block that has to be freed, so a program that relies on the other result leaks.
# mallinfo2() is answered by glibc whatever allocator serves the program: 64 MiB held count as
# nothing. tcmalloc replaces mallinfo() and not mallinfo2(), so the two functions disagree.
#
# Seen:
#> glibc     realloc(p, 0): NULL      held 64 MiB: mallinfo 64, mallinfo2 64
#> jemalloc  realloc(p, 0): NULL      held 64 MiB: mallinfo 0, mallinfo2 0
#> mimalloc  realloc(p, 0): a block   held 64 MiB: mallinfo 0, mallinfo2 0
#> tcmalloc  realloc(p, 0): NULL      held 64 MiB: mallinfo 64, mallinfo2 0
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download libc6=2.36-9+deb12u14 \
	libstdc++6=12.2.0-14+deb12u1 libgcc-s1=12.2.0-14+deb12u1 libjemalloc2=5.3.0-1 \
	libmimalloc2.0=2.0.9+ds-2 libtcmalloc-minimal4=2.10-1)
for package in "$dir"/*.deb; do
	dpkg -x "$package" "$dir/root"
done

cat >"$dir/held.c" <<'C'
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	struct mallinfo2 wide;
	struct mallinfo narrow;
	void *block;

	for (int i = 0; i < 64; i++)
		if (!malloc(1 << 20))
			return 1;
	wide = mallinfo2();
	narrow = mallinfo();
	block = realloc(malloc(1000), 0);
	printf("%-9s realloc(p, 0): %-9s held 64 MiB: mallinfo %d, mallinfo2 %zu\n", argv[1],
	       block ? "a block" : "NULL", (narrow.uordblks + narrow.hblkhd) >> 20,
	       (wide.uordblks + wide.hblkhd) >> 20);
	return 0;
}
C
cc -O0 -w -o "$dir/held" "$dir/held.c"

loader=$(echo "$dir"/root/lib/*-linux-gnu/ld-linux-*.so.*)
libraries=$(echo "$dir"/root/usr/lib/*-linux-gnu)
path=$(dirname "$loader"):$libraries
{
	"$loader" --library-path "$path" "$dir/held" glibc
	for name in jemalloc:libjemalloc.so.2 mimalloc:libmimalloc.so.2.0 \
		tcmalloc:libtcmalloc_minimal.so.4; do
		"$loader" --library-path "$path" --preload "$libraries/${name#*:}" "$dir/held" "${name%:*}"
	done
} | tee "$dir/seen"

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
