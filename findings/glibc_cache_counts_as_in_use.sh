#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# glibc 2.36-9+deb12u14 (Debian 12): small blocks that a program has freed still count as in use.
#
# free() puts the first seven blocks of a size into the thread's cache (tcache). mallinfo2() counts
# them as allocated, and malloc_trim() does not release them, so "in use" stays where it was.
# calloc() of this version never takes a block from that cache: seven rounds of calloc and free use
# seven blocks, and only from then on is the block reused. malloc reuses it at once.
#
# Seen:
#> 7 blocks of 1000 bytes, held:          7056
#> 7 blocks of 1000 bytes, freed:         7056
#> after malloc_trim:                     7056
#> 10 rounds of malloc(600) and free:     1 address
#> 10 rounds of calloc(700) and free:     8 addresses
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download libc6=2.36-9+deb12u14)
dpkg -x "$dir"/libc6_*.deb "$dir/root"

cat >"$dir/cache.c" <<'C'
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

static void *seen[10];
static int addresses;

static void note(void *block)
{
	for (int i = 0; i < addresses; i++)
		if (seen[i] == block)
			return;
	seen[addresses++] = block;
}

int main(void)
{
	void *blocks[7];
	size_t before;

	puts("");
	before = mallinfo2().uordblks;
	for (int i = 0; i < 7; i++)
		blocks[i] = malloc(1000);
	printf("7 blocks of 1000 bytes, held:          %zu\n", mallinfo2().uordblks - before);
	for (int i = 0; i < 7; i++)
		free(blocks[i]);
	printf("7 blocks of 1000 bytes, freed:         %zu\n", mallinfo2().uordblks - before);
	malloc_trim(0);
	printf("after malloc_trim:                     %zu\n", mallinfo2().uordblks - before);

	for (int i = 0; i < 10; i++) {
		void *block = malloc(600);
		note(block);
		free(block);
	}
	printf("10 rounds of malloc(600) and free:     %d address\n", addresses);
	addresses = 0;
	for (int i = 0; i < 10; i++) {
		void *block = calloc(1, 700);
		note(block);
		free(block);
	}
	printf("10 rounds of calloc(700) and free:     %d addresses\n", addresses);
	return 0;
}
C
cc -O0 -w -o "$dir/cache" "$dir/cache.c"
lib=$(echo "$dir"/root/lib/*-linux-gnu)
"$lib"/ld-linux-*.so.* --library-path "$lib" "$dir/cache" | sed 1d | tee "$dir/seen"

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
