# SPDX-License-Identifier: Apache-2.0
"""The rows of unwind tables, as in bpf/unwind_rows.h, which says what each kind means.

A test compiles that header and compares the two.
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.void]
Blocks = npt.NDArray[np.uint32]

ROW: np.dtype[Any] = np.dtype([("pc", "<u4"), ("rule", "<u4")])

BLOCK_SHIFT = 8
BLOCK_SIZE = 1 << BLOCK_SHIFT


class RowKind(enum.IntEnum):
    """The low four bits of a rule; on arm64, `ARM64` with flags."""

    NONE = 0
    UNSUP = 1
    END = 2
    SIGNAL = 3
    SP = 4
    FP = 5
    PLT = 6
    DEREF = 7
    ARM64 = 8


ARM64_FP_BASE = 1


class Arm64Ra(enum.IntEnum):
    """Where x30, and perhaps x29, are."""

    REG = 0
    PAIR = 2
    ALONE = 4
    REG_FP = 6


ARM64_RA_MASK = 6
ARM64_PC_MASK = (1 << 48) - 1

FP_SAME = 0
FP_AT_FP = 1


class StackEnd(enum.IntEnum):
    """How a stack ended; all but COMPLETE say why it is truncated."""

    COMPLETE = 0
    NO_MAPPING = 1
    NO_ROW = 2
    UNSUPPORTED = 3
    UNREADABLE = 4
    CORRUPT = 5
    TOO_DEEP = 6


STACK_BY_FRAME_POINTER = 0x80

_X86_SCALED = 0x80
_ARM64_FIELD = 0x3FFF


def kind_of(rule: int) -> int:
    return rule & 15


def x86_rule(kind: RowKind, cfa: int, fp: int = FP_SAME) -> int | None:
    """A rule of x86-64, or None where the offset does not fit. `fp` is as in ROW_X86_FP()."""
    if not -128 <= fp <= FP_AT_FP:
        return None
    low = int(kind) | (fp & 0xFF) << 8
    if -0x8000 <= cfa <= 0x7FFF:
        return low | (cfa & 0xFFFF) << 16
    if cfa % 8 == 0 and -0x8000 <= cfa // 8 <= 0x7FFF and kind is not RowKind.PLT:
        return low | _X86_SCALED | (cfa // 8 & 0xFFFF) << 16
    return None


def x86_cfa(rule: int) -> int:
    """The offset of the CFA in bytes."""
    value = _signed(rule >> 16, 16)
    return value * 8 if rule & _X86_SCALED else value


def x86_fp(rule: int) -> int:
    return _signed(rule >> 8 & 0xFF, 8)


def arm64_rule(fp_base: bool, ra: Arm64Ra, cfa: int, slot: int) -> int | None:
    """A rule of arm64, or None where an offset does not fit. `slot` is below the CFA, in bytes."""
    if (
        cfa % 8
        or slot % 8
        or not (0 <= cfa // 8 <= _ARM64_FIELD and 0 <= slot // 8 <= _ARM64_FIELD)
    ):
        return None
    kind = RowKind.ARM64 | int(ra) | (ARM64_FP_BASE if fp_base else 0)
    return kind | slot // 8 << 4 | cfa // 8 << 18


def arm64_slot(rule: int) -> int:
    return (rule >> 4 & _ARM64_FIELD) * 8


def arm64_cfa(rule: int) -> int:
    return (rule >> 18) * 8


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value
