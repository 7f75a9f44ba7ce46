# SPDX-License-Identifier: Apache-2.0
"""Sets of signals, handlers, exit statuses and siginfo."""

from __future__ import annotations

import functools
from collections.abc import Callable

from kwatch.syscalls.calls import Argument, Call
from kwatch.syscalls.decode import scalars
from kwatch.syscalls.decode.sets import named_set
from kwatch.syscalls.decode.structs import address
from kwatch.syscalls.decode.style import Show, Style
from kwatch.syscalls.layouts import layout
from kwatch.wire.events import Abi

_SIGNALS = 64
_SIG_CHILD, _CODE_KERNEL = 17, 0x80
_FAULTS = {4: "ILL", 5: "TRAP", 7: "BUS", 8: "FPE", 11: "SEGV"}
_SIGIO = 29
_CORE_DUMPED = 0x80


def signal_set(bits: int, signals: int = _SIGNALS) -> str:
    """`[INT CHLD]`, or `~[KILL]` where more than half of the signals are in the set."""
    members = [number for number in range(1, signals + 1) if bits >> number - 1 & 1]
    if 3 * len(members) >= 2 * signals:
        missing = [number for number in range(1, signals + 1) if number not in members]
        return f"~[{_listed(missing)}]"
    return f"[{_listed(members)}]"


@functools.lru_cache(4096)
def signal_set_bytes(data: bytes) -> str:
    """The set in the first 8 bytes, or in 4 of an old call."""
    return signal_set(int.from_bytes(data[:8], "little"), min(len(data), 8) * 8)


def _listed(numbers: list[int]) -> str:
    return " ".join(map(scalars.signal_suffix, numbers))


def handler(value: int) -> str:
    return {0: "SIG_DFL", 1: "SIG_IGN"}.get(value) or f"{value:#x}"


def wait_status(value: int) -> str:
    """`[{WIFEXITED(s) && WEXITSTATUS(s) == 1}]`: how a child ended or stopped."""
    status = scalars.int32(value)
    low = status & 0x7F
    if status == 0xFFFF:
        return "[{WIFCONTINUED(s)}]"
    if status & 0xFF == 0x7F:
        stop = status >> 8 & 0xFF
        event = status >> 16
        trailing = f" | {event:#x} << 16" if event else ""
        text = scalars.signal(stop & 0x7F) + (" | 0x80" if stop & 0x80 else "")
        return f"[{{WIFSTOPPED(s) && WSTOPSIG(s) == {text}}}{trailing}]"
    if low == 0:
        return f"[{{WIFEXITED(s) && WEXITSTATUS(s) == {status >> 8 & 0xFF}}}]"
    core = " && WCOREDUMP(s)" if status & _CORE_DUMPED else ""
    return f"[{{WIFSIGNALED(s) && WTERMSIG(s) == {scalars.signal(low)}{core}}}]"


def signal_info(abi: Abi) -> Callable[[bytes], str]:
    """`{si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=1, ...}`."""
    found = layout("siginfo", abi)
    codes, child, segv = (
        named_set(name, abi) for name in ("si_code", "si_code_child", "si_code_segv")
    )
    if found is None or codes is None or child is None or segv is None:
        raise KeyError("the table lacks siginfo")

    def show(data: bytes) -> str:
        known = found.values(data)
        number, code = known.get("si_signo"), known.get("si_code")
        if number is None or code is None:
            return "{...}"
        if not (number or code):
            return "{}"
        names = (
            child
            if number == _SIG_CHILD and code > 0
            else segv
            if number == 11 and code > 0
            else codes
        )
        if code == _CODE_KERNEL or code <= 0:
            names = codes
        parts = [f"si_signo={scalars.signal(number)}", f"si_code={names[code]}"]
        if known["si_errno"]:
            parts.append(f"si_errno={known['si_errno']}")
        details = _details(number, code, known) if len(data) >= found.size else ["..."]
        return "{" + ", ".join(parts + details) + "}"

    return show


def _details(number: int, code: int, known: dict[str, int]) -> list[str]:
    sender = [f"si_pid={known['si_pid']}", f"si_uid={known['si_uid']}"]
    if number == _SIG_CHILD and code > 0:
        return [*sender, *_child(code, known)]
    if number in _FAULTS and 0 < code != _CODE_KERNEL:
        return [f"si_addr={address(known['si_addr'])}"]
    if number == _SIGIO and code > 0:
        return [f"si_band={known['si_band']}", f"si_fd={known['si_fd']}"]
    if code == -1:
        value = known["si_value"]
        return [*sender, f"si_int={scalars.int32(value)}, si_ptr={address(value)}"]
    return sender if code <= 0 else []


def _child(code: int, known: dict[str, int]) -> list[str]:
    status = known["si_status"]
    shown = str(status) if code == 1 else scalars.signal(status)
    times = [f"si_utime={ticks(known['si_utime'])}", f"si_stime={ticks(known['si_stime'])}"]
    return [f"si_status={shown}", *times]


def ticks(count: int) -> str:
    """Times of a process, in hundredths of a second."""
    return f"{count} /* {count / 100:g} s */" if count else "0"


def sigset_maker(call: Call, argument: Argument, style: Style) -> Show:
    return lambda data, a, r, d: signal_set_bytes(data)


def siginfo_maker(call: Call, argument: Argument, style: Style) -> Show:
    show = signal_info(style.abi)
    return lambda data, a, r, d: show(data)


def sigaction_maker(call: Call, argument: Argument, style: Style) -> Show:
    found, flags = layout("sigaction", style.abi), named_set("sigaction_flags", style.abi)
    assert found is not None
    assert flags is not None
    at = found.member("sa_mask").offset

    @functools.lru_cache(1024)
    def shown(data: bytes) -> str:
        if len(data) < found.size:
            return "{...}"
        known = found.values(data)
        parts = [
            f"sa_handler={handler(known['sa_handler'])}",
            f"sa_mask={signal_set_bytes(data[at : at + 8])}",
            f"sa_flags={flags[known['sa_flags']]}",
        ]
        if known["sa_flags"] & 0x04000000:
            parts.append(f"sa_restorer={address(known['sa_restorer'])}")
        return "{" + ", ".join(parts) + "}"

    return lambda data, a, r, d: shown(data)
