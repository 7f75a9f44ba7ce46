# SPDX-License-Identifier: Apache-2.0
"""The rows of Python are those that a C compiler reads by bpf/unwind_rows.h."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kwatch.unwind import rows

BPF = Path(__file__).parents[2] / "bpf"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What a C program that includes unwind_rows.h prints for these expressions."""
    folder = tmp_path_factory.mktemp("rows")

    def ask(expressions):
        source, binary = folder / "probe.c", folder / "probe"
        lines = "\n".join(f'printf("%lld\\n", (long long)({each}));' for each in expressions)
        source.write_text(
            "#include <linux/types.h>\n#include <stddef.h>\n#include <stdio.h>\n"
            f'#include "unwind_rows.h"\nint main(void) {{\n{lines}\nreturn 0; }}\n'
        )
        subprocess.run(["gcc", "-Wall", "-Werror", "-I", BPF, "-o", binary, source], check=True)
        said = subprocess.run([binary], capture_output=True, text=True, check=True).stdout
        return [int(line) for line in said.splitlines()]

    return ask


def test_layout_and_enumerations(compiled):
    pc, rule = (rows.ROW.fields[name][1] for name in ("pc", "rule"))
    expected = {
        "sizeof(struct kwatch_row)": rows.ROW.itemsize,
        "offsetof(struct kwatch_row, pc)": pc,
        "offsetof(struct kwatch_row, rule)": rule,
        "KWATCH_BLOCK_SHIFT": rows.BLOCK_SHIFT,
        "KWATCH_BLOCK_SIZE": rows.BLOCK_SIZE,
        "STACK_ENDS": len(rows.StackEnd),
        "STACK_BY_FRAME_POINTER": rows.STACK_BY_FRAME_POINTER,
        "ROW_ARM64_FP_BASE": rows.ARM64_FP_BASE,
        "ROW_ARM64_RA_MASK": rows.ARM64_RA_MASK,
        "ROW_X86_FP_SAME": rows.FP_SAME,
        "ROW_X86_FP_AT_FP": rows.FP_AT_FP,
        **{f"ROW_{kind.name}": int(kind) for kind in rows.RowKind},
        **{f"ROW_ARM64_RA_{ra.name}": int(ra) for ra in rows.Arm64Ra},
        **{f"STACK_{end.name}": int(end) for end in rows.StackEnd},
    }
    assert dict(zip(expected, compiled(expected), strict=True)) == expected


X86 = [(8, 0), (16, -2), (-8, 1), (0x7FFF, -128), (0x8000, 0), (262136, -6), (-262144, -7)]


def test_rules_of_x86(compiled):
    questions, answers = [], []
    for cfa, fp in X86:
        rule = rows.x86_rule(rows.RowKind.FP, cfa, fp)
        assert (rows.x86_cfa(rule), rows.x86_fp(rule)) == (cfa, fp)
        questions += [f"{name}({rule}u)" for name in ("ROW_KIND", "ROW_X86_CFA", "ROW_X86_FP")]
        answers += [rows.RowKind.FP, cfa, fp]
    assert compiled(questions) == answers


ARM64 = [(0, 0), (16, 16), (131064, 8), (48, 131064)]


def test_rules_of_arm64(compiled):
    questions, answers = [], []
    for cfa, slot in ARM64:
        rule = rows.arm64_rule(True, rows.Arm64Ra.PAIR, cfa, slot)
        assert (rows.arm64_cfa(rule), rows.arm64_slot(rule)) == (cfa, slot)
        questions += [f"{name}({rule}u)" for name in ("ROW_ARM64_CFA", "ROW_ARM64_SLOT")]
        questions.append(f"ROW_KIND({rule}u)")
        answers += [cfa, slot, rows.RowKind.ARM64 | rows.ARM64_FP_BASE | rows.Arm64Ra.PAIR]
    assert compiled(questions) == answers


def test_what_does_not_fit_has_no_rule():
    assert rows.x86_rule(rows.RowKind.SP, 0x8004) is None
    assert rows.x86_rule(rows.RowKind.SP, 262144) is None
    assert rows.x86_rule(rows.RowKind.SP, 16, -129) is None
    assert rows.x86_rule(rows.RowKind.SP, 16, 2) is None
    assert rows.arm64_rule(False, rows.Arm64Ra.REG, 131072, 0) is None
    assert rows.arm64_rule(False, rows.Arm64Ra.REG, 16, 4) is None
    assert rows.arm64_rule(False, rows.Arm64Ra.PAIR, 16, -8) is None
