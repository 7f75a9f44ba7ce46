#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# numpy 2.4.6 for x86-64 (its bundled OpenBLAS, read with pyelftools 0.33): the matrix kernels have
# no unwind information, although the library has .eh_frame and PT_GNU_EH_FRAME.
#
# Compilers for x86-64 write .eh_frame for C too, so one expects to unwind from anywhere. These
# kernels are assembly without CFI, and they move rsp. A profiler that relies on .eh_frame loses the
# callers just where a numerical program spends its time.
#
# Seen:
#> PT_GNU_EH_FRAME: yes
#> code covered by .eh_frame: 85%
#> exported functions without an entry: more than 800
#> cblas_dgemm64_: entry
#> dgemm_kernel_HASWELL: no entry
#> dgemm_kernel_SKYLAKEX: entry
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check pyelftools==0.33 2>"$dir/pip" &&
	"$dir/venv/bin/pip" download -q --disable-pip-version-check --no-deps --only-binary :all: \
		--platform manylinux_2_27_x86_64 --platform manylinux_2_28_x86_64 \
		--python-version 3.11 -d "$dir" numpy==2.4.6 2>"$dir/pip" || {
	cat "$dir/pip" >&2
	exit 2
}
python3 -m zipfile -e "$dir"/numpy-*.whl "$dir/wheel"

"$dir/venv/bin/python" - "$dir"/wheel/numpy.libs/libscipy_openblas64_*.so <<'PY' | tee "$dir/seen"
import bisect
import sys

from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile

elf = ELFFile(open(sys.argv[1], "rb"))
ranges = sorted(
    (entry["initial_location"], entry["initial_location"] + entry["address_range"])
    for entry in elf.get_dwarf_info().EH_CFI_entries()
    if isinstance(entry, FDE)
)
functions = {
    symbol.name: symbol["st_value"]
    for symbol in elf.get_section_by_name(".dynsym").iter_symbols()
    if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_value"]
}


def has_entry(address):
    begin, end = ranges[bisect.bisect(ranges, (address, 1 << 64)) - 1]
    return begin <= address < end


segments = [segment["p_type"] for segment in elf.iter_segments()]
code = elf.get_section_by_name(".text")["sh_size"]
print("PT_GNU_EH_FRAME:", "yes" if "PT_GNU_EH_FRAME" in segments else "no")
print(f"code covered by .eh_frame: {sum(end - begin for begin, end in ranges) / code:.0%}")
missing = [name for name, address in functions.items() if not has_entry(address)]
print("exported functions without an entry:", "more than 800" if len(missing) > 800 else missing)
for name in ("cblas_dgemm64_", "dgemm_kernel_HASWELL", "dgemm_kernel_SKYLAKEX"):
    [found] = [address for symbol, address in functions.items() if symbol.endswith(name)]
    print(f"{name}:", "entry" if has_entry(found) else "no entry")
PY

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
