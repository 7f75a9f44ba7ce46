#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# capstone 5.0.9: regs_access() is no basis for "is this register still intact?".
#
# It is right for most instructions and silently wrong for these. x86-64: `syscall` overwrites rcx
# and r11; `cmpxchg` writes its memory operand, rax and the flags; `xadd` writes the flags; `enter`
# writes rsp and rbp; `xlatb` reads rbx and al and writes al. arm64: `ret` reads x30; `svc` does not
# write x30; `cbz` does not read the flags, and `tbz`, its sibling, is right.
#
# Seen:
#> syscall                    reads -                    writes -
#> cmpxchg [rdi], rcx         reads rax rcx rdi          writes -
#> xadd [rdi], rax            reads rax rdi              writes rax
#> enter 8, 0                 reads -                    writes -
#> xlatb                      reads -                    writes -
#> push rax                   reads rax rsp              writes rsp
#> ret (arm64)                reads -                    writes -
#> svc #0 (arm64)             reads -                    writes lr
#> cbz x0, #0xc (arm64)       reads nzcv x0              writes -
#> tbz w0, #0, #0xc (arm64)   reads w0                   writes -
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check capstone==5.0.9 2>"$dir/pip" || {
	cat "$dir/pip" >&2
	exit 2
}

"$dir/venv/bin/python" - <<'PY' | tee "$dir/seen"
import capstone

X86 = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
ARM64 = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
CODE = {
    X86: ["0f05", "480fb10f", "480fc107", "c8080000", "d7", "50"],
    ARM64: ["c0035fd6", "010000d4", "600000b4", "60000036"],
}

for machine, instructions in CODE.items():
    machine.detail = True
    for code in instructions:
        [found] = machine.disasm(bytes.fromhex(code), 0)
        read, written = (
            " ".join(sorted(map(found.reg_name, registers))) or "-"
            for registers in found.regs_access()
        )
        text = f"{found.mnemonic} {found.op_str}".strip().replace("qword ptr ", "")
        text += " (arm64)" * (machine is ARM64)
        print(f"{text:26} reads {read:20} writes {written}")
PY

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"
