# SPDX-License-Identifier: Apache-2.0
"""Signals as strace shows them: `--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, ...} ---`."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from kwatch.syscalls.decode import scalars

_SIGSEGV, _SIGBUS, _SIGILL, _SIGFPE, _SIGTRAP, _SIGCHLD, _SIGSYS, _SIGPOLL = (
    *(11, 7, 4, 8, 5),
    *(17, 31, 29),
)
_FAULTS = frozenset({_SIGSEGV, _SIGBUS, _SIGILL, _SIGFPE, _SIGTRAP})
#: Codes of any signal, then of single ones: include/uapi/asm-generic/siginfo.h.
_CODES = {
    0: "SI_USER",
    0x80: "SI_KERNEL",
    -1: "SI_QUEUE",
    -2: "SI_TIMER",
    -3: "SI_MESGQ",
    -4: "SI_ASYNCIO",
    -5: "SI_SIGIO",
    -6: "SI_TKILL",
    -7: "SI_DETHREAD",
    -60: "SI_ASYNCNL",
}
_OWN_CODES = {
    _SIGCHLD: "EXITED KILLED DUMPED TRAPPED STOPPED CONTINUED",
    _SIGSEGV: "MAPERR ACCERR BNDERR PKUERR ACCADI ADIDERR ADIPERR MTEAERR MTESERR CPERR",
    _SIGBUS: "ADRALN ADRERR OBJERR MCEERR_AR MCEERR_AO",
    _SIGILL: "ILLOPC ILLOPN ILLADR ILLTRP PRVOPC PRVREG COPROC BADSTK BADIADDR",
    _SIGFPE: "INTDIV INTOVF FLTDIV FLTOVF FLTUND FLTRES FLTINV FLTSUB",
    _SIGTRAP: "BRKPT TRACE BRANCH HWBKPT UNK PERF",
    _SIGPOLL: "IN OUT MSG ERR PRI HUP",
    _SIGSYS: "SECCOMP USER_DISPATCH",
}
_PREFIXES = {
    _SIGCHLD: "CLD",
    _SIGSEGV: "SEGV",
    _SIGBUS: "BUS",
    _SIGILL: "ILL",
    _SIGFPE: "FPE",
    _SIGTRAP: "TRAP",
    _SIGPOLL: "POLL",
    _SIGSYS: "SYS",
}
#: struct siginfo of 64 bits, up to the members of SIGCHLD.
_SIGINFO = struct.Struct("=iiiiIIi4xqq")
_FROM_QUEUE = (-1, -3)


def signal_name(number: int) -> str:
    return scalars.signal(number)


def signal_line(number: int, words: Sequence[int]) -> str:
    """`words`: the first 48 bytes of the siginfo_t."""
    data = struct.pack("=6Q", *words)
    _, error, code, _, pid, uid, status, user, system = _SIGINFO.unpack(data)
    name = signal_name(number)
    parts = [f"si_signo={name}", f"si_code={_code(number, code)}"]
    if error:
        parts.append(f"si_errno={error}")
    if number == _SIGCHLD and code > 0:
        ended = str(status) if code == 1 else signal_name(status)
        parts += [f"si_pid={pid}", f"si_uid={uid}", f"si_status={ended}"]
        parts += [f"si_utime={user}", f"si_stime={system}"]
    elif number in _FAULTS and code > 0:
        address = words[2]
        parts.append(f"si_addr={address:#x}" if address else "si_addr=NULL")
    elif code in _FROM_QUEUE:
        value, low = words[3], words[3] & 0xFFFFFFFF
        parts += [f"si_pid={pid}", f"si_uid={uid}"]
        signed = low - (1 << 32) if low >> 31 else low
        parts.append(f"si_int={signed}")
        parts.append(f"si_ptr={value:#x}" if value else "si_ptr=NULL")
    elif code <= 0 and code != -2:
        parts += [f"si_pid={pid}", f"si_uid={uid}"]
    return f"--- {name} {{{', '.join(parts)}}} ---"


def _code(number: int, code: int) -> str:
    if code in _CODES:
        return _CODES[code]
    own = _OWN_CODES.get(number, "").split()
    if 0 < code <= len(own):
        return f"{_PREFIXES[number]}_{own[code - 1]}"
    return f"{code:#x}" if code > 0 else str(code)
