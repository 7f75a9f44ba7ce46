# SPDX-License-Identifier: Apache-2.0
"""Names and numbers of system calls, from table.tsv, which tools/syscall_table.py makes.

The names are those strace prints. x32 numbers come without the 0x40000000 bit. Not in the
table: ARM's private calls (0xf0001 and up, wider than the record's 16 bits), its OABI calls, and
the x86-64 entries that x32 replaced (no system calls since Linux 5.4, commit 6365b842aae4).
"""

from __future__ import annotations

import functools
from pathlib import Path

from kwatch.wire.events import Abi
from kwatch.wire.maps import CALL_NUMBERS

_TABLE = Path(__file__).with_name("table.tsv")
_UNNAMED = "syscall_"


def name(abi: Abi, nr: int) -> str:
    """The call's name, or `syscall_N` for a number without one."""
    return _names_by_number()[abi].get(nr) or f"{_UNNAMED}{nr}"


def number(abi: Abi, name: str) -> int | None:
    """The inverse of `name`; None when the ABI has no such call."""
    known = _numbers_by_name()[abi].get(name)
    return _unnamed_number(abi, name) if known is None else known


@functools.cache
def all_names() -> frozenset[str]:
    """Every name in the table, of any ABI."""
    return frozenset().union(*_numbers_by_name().values())


@functools.cache
def everything() -> frozenset[str]:
    """`all_names` and `syscall_N` for every number, so that newer calls are selected too."""
    return all_names().union(f"{_UNNAMED}{nr}" for nr in range(CALL_NUMBERS))


def _unnamed_number(abi: Abi, name: str) -> int | None:
    digits = name.removeprefix(_UNNAMED)
    if digits == name or not (digits.isascii() and digits.isdecimal()):
        return None
    nr = int(digits)
    return None if nr in _names_by_number()[abi] else nr


@functools.cache
def _names_by_number() -> dict[Abi, dict[int, str]]:
    return {
        abi: {nr: name for name, nr in table.items()} for abi, table in _numbers_by_name().items()
    }


@functools.cache
def _numbers_by_name() -> dict[Abi, dict[str, int]]:
    lines = [line for line in _TABLE.read_text().splitlines() if not line.startswith("#")]
    abis = [Abi[column.upper()] for column in lines[0].split("\t")[1:]]
    tables: dict[Abi, dict[str, int]] = {abi: {} for abi in abis}
    for line in lines[1:]:
        name, *cells = line.split("\t")
        for abi, cell in zip(abis, cells, strict=True):
            if cell != "-":
                tables[abi][name] = int(cell)
    return tables
