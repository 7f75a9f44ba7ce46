#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# glibc 2.36-9+deb12u14 (Debian 12, x86-64), read with pyelftools 0.33: the unwind entry of
# __restore_rt, the code that a signal handler returns to, begins one byte before the code.
#
# An unwinder looks up the byte before a return address, since a return address may be the first
# byte of the next function. A signal handler returns to the first byte of __restore_rt, which no
# code has called, so that look-up ends before the function. glibc therefore lets the entry begin at
# the byte of padding before it. An entry does not always begin where a function begins.
#
# Seen:
#> code at        0x3c050: mov $15, %rax; syscall
#> byte before    0x0
#> entry begins   0x3c04f
#> entry ends     0x3c059
#> augmentation   zRS
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download libc6=2.36-9+deb12u14)
dpkg -x "$dir"/libc6_*.deb "$dir/root"
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check pyelftools==0.33 2>"$dir/pip" || {
	cat "$dir/pip" >&2
	exit 2
}

"$dir/venv/bin/python" - "$dir"/root/lib/*/libc.so.6 <<'PY' | tee "$dir/seen"
import sys

from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile

RETURN = bytes.fromhex("48c7c00f0000000f05")

elf = ELFFile(open(sys.argv[1], "rb"))
text = elf.get_section_by_name(".text")
offset = text.data().find(RETURN)
address = text["sh_addr"] + offset
[entry] = [
    entry
    for entry in elf.get_dwarf_info().EH_CFI_entries()
    if isinstance(entry, FDE) and 0 <= address - entry["initial_location"] < entry["address_range"]
]
print(f"code at        {address:#x}: mov $15, %rax; syscall")
print(f"byte before    {text.data()[offset - 1]:#x}")
print(f"entry begins   {entry['initial_location']:#x}")
print(f"entry ends     {entry['initial_location'] + entry['address_range']:#x}")
print(f"augmentation   {entry.cie['augmentation'].decode()}")
PY

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
