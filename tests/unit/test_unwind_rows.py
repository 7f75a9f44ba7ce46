# SPDX-License-Identifier: Apache-2.0
"""Python and C encode rows in the same way: compares with a compiled bpf/unwind_rows.h."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kwatch.wire import unwind_rows

BPF = Path(__file__).parents[2] / "bpf"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The values of expressions in a C program that includes unwind_rows.h."""
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
    pc, rule = (unwind_rows.ROW.fields[name][1] for name in ("pc", "rule"))
    expected = {
        "sizeof(struct kwatch_row)": unwind_rows.ROW.itemsize,
        "offsetof(struct kwatch_row, pc)": pc,
        "offsetof(struct kwatch_row, rule)": rule,
        "KWATCH_BLOCK_SHIFT": unwind_rows.BLOCK_SHIFT,
        "KWATCH_BLOCK_SIZE": unwind_rows.BLOCK_SIZE,
        "STACK_ENDS": len(unwind_rows.StackEnd),
        "STACK_BY_FRAME_POINTER": unwind_rows.STACK_BY_FRAME_POINTER,
        "ROW_ARM64_FP_BASE": unwind_rows.ARM64_FP_BASE,
        "ROW_ARM64_RA_MASK": unwind_rows.ARM64_RA_MASK,
        "ROW_X86_FP_SAME": unwind_rows.FP_SAME,
        "ROW_X86_FP_AT_FP": unwind_rows.FP_AT_FP,
        **{f"ROW_{kind.name}": int(kind) for kind in unwind_rows.RowKind},
        **{f"ROW_ARM64_RA_{ra.name}": int(ra) for ra in unwind_rows.Arm64Ra},
        **{f"STACK_{end.name}": int(end) for end in unwind_rows.StackEnd},
    }
    assert dict(zip(expected, compiled(expected), strict=True)) == expected


X86 = [(8, 0), (16, -2), (-8, 1), (0x7FFF, -128), (0x8000, 0), (262136, -6), (-262144, -7)]


def test_rules_of_x86(compiled):
    questions, answers = [], []
    for cfa, fp in X86:
        rule = unwind_rows.x86_rule(unwind_rows.RowKind.FP, cfa, fp)
        assert (unwind_rows.x86_cfa(rule), unwind_rows.x86_fp(rule)) == (cfa, fp)
        questions += [f"{name}({rule}u)" for name in ("ROW_KIND", "ROW_X86_CFA", "ROW_X86_FP")]
        answers += [unwind_rows.RowKind.FP, cfa, fp]
    assert compiled(questions) == answers


ARM64 = [(0, 0), (16, 16), (131064, 8), (48, 131064)]


def test_rules_of_arm64(compiled):
    questions, answers = [], []
    for cfa, slot in ARM64:
        rule = unwind_rows.arm64_rule(True, unwind_rows.Arm64Ra.PAIR, cfa, slot)
        assert (unwind_rows.arm64_cfa(rule), unwind_rows.arm64_slot(rule)) == (cfa, slot)
        questions += [f"{name}({rule}u)" for name in ("ROW_ARM64_CFA", "ROW_ARM64_SLOT")]
        questions.append(f"ROW_KIND({rule}u)")
        answers += [
            cfa,
            slot,
            unwind_rows.RowKind.ARM64 | unwind_rows.ARM64_FP_BASE | unwind_rows.Arm64Ra.PAIR,
        ]
    assert compiled(questions) == answers


def test_a_value_that_does_not_fit_has_no_rule():
    assert unwind_rows.x86_rule(unwind_rows.RowKind.SP, 0x8004) is None
    assert unwind_rows.x86_rule(unwind_rows.RowKind.SP, 262144) is None
    assert unwind_rows.x86_rule(unwind_rows.RowKind.SP, 16, -129) is None
    assert unwind_rows.x86_rule(unwind_rows.RowKind.SP, 16, 2) is None
    assert unwind_rows.arm64_rule(False, unwind_rows.Arm64Ra.REG, 131072, 0) is None
    assert unwind_rows.arm64_rule(False, unwind_rows.Arm64Ra.REG, 16, 4) is None
    assert unwind_rows.arm64_rule(False, unwind_rows.Arm64Ra.PAIR, 16, -8) is None
