#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Debian 12's bash-static 5.2.15-2+b13 (gcc -static) has .eh_frame and no PT_GNU_EH_FRAME segment;
# bash 5.2.15-2+b13, the same source linked dynamically, has both (read with pyelftools 0.33).
#
# gcc passes --eh-frame-hdr to the linker unless the program is static and not PIE. An unwinder that
# finds the tables by the segment, as dl_iterate_phdr() suggests, finds none in this program with
# more than 4,000 entries. It has to read the section.
#
# Seen:
#> bash         ET_DYN   PT_GNU_EH_FRAME: yes   .eh_frame entries: 2277
#> bash-static  ET_EXEC  PT_GNU_EH_FRAME: no    .eh_frame entries: 4335
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download bash=5.2.15-2+b13 \
	bash-static=5.2.15-2+b13)
for package in "$dir"/*.deb; do
	dpkg -x "$package" "$dir/root"
done
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check pyelftools==0.33 2>"$dir/pip" || {
	cat "$dir/pip" >&2
	exit 2
}

"$dir/venv/bin/python" - "$dir"/root/bin/bash "$dir"/root/bin/bash-static <<'PY' | tee "$dir/seen"
import pathlib
import sys

from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile

for path in map(pathlib.Path, sys.argv[1:]):
    elf = ELFFile(path.open("rb"))
    segment = any(segment["p_type"] == "PT_GNU_EH_FRAME" for segment in elf.iter_segments())
    count = sum(isinstance(entry, FDE) for entry in elf.get_dwarf_info().EH_CFI_entries())
    print(
        f"{path.name:12} {elf['e_type']:8} PT_GNU_EH_FRAME: {'yes' if segment else 'no':5}"
        f" .eh_frame entries: {count}"
    )
PY

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
