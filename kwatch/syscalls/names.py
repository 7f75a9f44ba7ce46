# SPDX-License-Identifier: Apache-2.0
"""Names and numbers of system calls, from data/numbers.tsv, which tools/syscall_data makes.

The names are those strace prints. x32 numbers come without the 0x40000000 bit. Not in the
table: ARM's private calls (0xf0001 and up, wider than the record's 16 bits), its OABI calls, and
the x86-64 entries that x32 replaced (no system calls since Linux 5.4, commit 6365b842aae4).

The calls inside i386's socketcall and ipc have numbers of kwatch's own beside the table's.
"""

from __future__ import annotations

import functools

from kwatch.syscalls.data_files import rows
from kwatch.wire.events import Abi
from kwatch.wire.maps import CALL_NUMBERS, IPC_NUMBERS, SOCKETCALL_NUMBERS

_UNNAMED = "syscall_"


#: By the first argument: include/uapi/linux/net.h, include/uapi/linux/ipc.h.
_SOCKETCALLS = """
    socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom
    shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg
""".split()
_IPC_CALLS = {
    **dict(enumerate(["semop", "semget", "semctl", "semtimedop"], 1)),
    **dict(enumerate(["msgsnd", "msgrcv", "msgget", "msgctl"], 11)),
    **dict(enumerate(["shmat", "shmdt", "shmget", "shmctl"], 21)),
}

#: For the BPF programs: the largest first argument of socketcall, and those of ipc as bits.
MAX_SOCKETCALL = len(_SOCKETCALLS)
IPC_CALLS = sum(1 << first for first in _IPC_CALLS)

_INNER = {SOCKETCALL_NUMBERS + first: name for first, name in enumerate(_SOCKETCALLS, 1)} | {
    IPC_NUMBERS + first: name for first, name in _IPC_CALLS.items()
}


def name(abi: Abi, nr: int) -> str:
    """The call's name, or `syscall_N` for a number without one."""
    return _names_by_number()[abi].get(nr) or f"{_UNNAMED}{nr}"


def number(abi: Abi, name: str) -> int | None:
    """The call's own number; None when the ABI has no such call, or only inside another one."""
    known = _numbers_by_name()[abi].get(name)
    return _unnamed_number(abi, name) if known is None else known


def numbers(abi: Abi, name: str) -> set[int]:
    """The inverse of `name`: every number of the call, also those inside other calls."""
    own = number(abi, name)
    inner = _numbers_inside().get(name, set()) if abi is Abi.I386 else set()
    return inner if own is None else inner | {own}


@functools.cache
def _numbers_inside() -> dict[str, set[int]]:
    """The numbers of calls inside i386's socketcall and ipc, by name."""
    found: dict[str, set[int]] = {}
    for nr, inside in _INNER.items():
        found.setdefault(inside, set()).add(nr)
    return found


def inner_number(abi: Abi, nr: int, first_argument: int) -> int:
    """The number of a call, or of the one inside i386's socketcall and ipc."""
    if abi is not Abi.I386:
        return nr
    if nr >= SOCKETCALL_NUMBERS:
        return CALL_NUMBERS - 1
    outer, inner = name(abi, nr), nr
    if outer == "socketcall":
        inner = SOCKETCALL_NUMBERS + first_argument
    elif outer == "ipc":
        inner = IPC_NUMBERS + (first_argument & 0xFFFF)
    return inner if inner in _INNER else nr


@functools.cache
def all_names() -> frozenset[str]:
    """Every name, of any ABI."""
    return frozenset(_INNER.values()).union(*_numbers_by_name().values())


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
        abi: {nr: name for name, nr in table.items()} | (_INNER if abi is Abi.I386 else {})
        for abi, table in _numbers_by_name().items()
    }


@functools.cache
def _numbers_by_name() -> dict[Abi, dict[str, int]]:
    tables: dict[Abi, dict[str, int]] = {abi: {} for abi in Abi}
    for name, *cells in rows("numbers"):
        for abi, cell in zip(Abi, cells, strict=True):
            if cell != "-":
                tables[abi][name] = int(cell)
    return tables
