#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# heaptrack 1.4.0-2 (Debian 12) does not see 64 MiB that pyarrow 26.0.1 or polars 2.1.0 holds.
#
# Each wheel contains an allocator: pyarrow its own mimalloc, polars a static jemalloc with prefixed
# names. Neither calls malloc for its data, so a tool that replaces malloc does not see that memory.
# heaptrack reports a peak of a few megabytes and no warning. It sees the buffer when pyarrow's pool
# is `system`.
#
# Seen:
#> pyarrow, pool mimalloc: holds 64 MiB, heaptrack's peak: below 10M
#> pyarrow, pool system: holds 64 MiB, heaptrack's peak: above 60M
#> polars: holds 64 MiB, heaptrack's peak: below 10M
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download heaptrack=1.4.0-2 \
	libheaptrack=1.4.0-2 libunwind8=1.6.2-3 libboost-filesystem1.74.0=1.74.0+ds1-21 \
	libboost-iostreams1.74.0=1.74.0+ds1-21 libboost-program-options1.74.0=1.74.0+ds1-21)
for package in "$dir"/*.deb; do
	dpkg -x "$package" "$dir/root"
done
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check pyarrow==26.0.1 polars==2.1.0 \
	2>"$dir/pip" || {
	cat "$dir/pip" >&2
	exit 2
}

cat >"$dir/arrow.py" <<'PY'
import ctypes

import pyarrow

buffer = pyarrow.allocate_buffer(64 << 20)
ctypes.memset(buffer.address, 1, buffer.size)
name = pyarrow.default_memory_pool().backend_name
print(f"pyarrow, pool {name}: holds {buffer.size >> 20} MiB")
PY
cat >"$dir/frame.py" <<'PY'
import polars

held = polars.int_range(0, 8 << 20, eager=True)
print(f"polars: holds {held.estimated_size() >> 20} MiB")
PY

export LD_LIBRARY_PATH PATH=$dir/root/usr/bin:$PATH
LD_LIBRARY_PATH=$(echo "$dir"/root/usr/lib/*-linux-gnu)
show() {
	local peak
	heaptrack -o "$dir/trace" "$dir/venv/bin/python" "$1" >"$dir/log" 2>&1
	peak=$(heaptrack_print "$dir"/trace.* |
		sed -n 's/^peak heap memory consumption: //p')
	echo "$(grep -o '.*holds 64 MiB' "$dir/log"), heaptrack's peak: $peak"
}
{
	show "$dir/arrow.py"
	ARROW_DEFAULT_MEMORY_POOL=system show "$dir/arrow.py"
	show "$dir/frame.py"
} | sed -E -e 's/: [0-9](\.[0-9]+)?M$/: below 10M/' \
	-e 's/: [67][0-9](\.[0-9]+)?M$/: above 60M/' | tee "$dir/seen"

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
