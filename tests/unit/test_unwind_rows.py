# SPDX-License-Identifier: Apache-2.0
"""The rules that Python encodes are those that the macros of bpf/unwind_rows.h decode."""

from __future__ import annotations

import pytest
from harness import c_headers

from kwatch.wire import unwind_rows


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """compiled(EXPRESSIONS): the values that they have in C."""
    folder = tmp_path_factory.mktemp("rows")
    return lambda expressions: c_headers.evaluate(folder, expressions)


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


def test_what_does_not_fit_has_no_rule():
    assert unwind_rows.x86_rule(unwind_rows.RowKind.SP, 0x8004) is None
    assert unwind_rows.x86_rule(unwind_rows.RowKind.SP, 262144) is None
    assert unwind_rows.x86_rule(unwind_rows.RowKind.SP, 16, -129) is None
    assert unwind_rows.x86_rule(unwind_rows.RowKind.SP, 16, 2) is None
    assert unwind_rows.arm64_rule(False, unwind_rows.Arm64Ra.REG, 131072, 0) is None
    assert unwind_rows.arm64_rule(False, unwind_rows.Arm64Ra.REG, 16, 4) is None
    assert unwind_rows.arm64_rule(False, unwind_rows.Arm64Ra.PAIR, 16, -8) is None
