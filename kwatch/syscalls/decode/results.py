# SPDX-License-Identifier: Apache-2.0
"""Results of calls: numbers, addresses, errors, and what a call reports beside its number."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from kwatch.syscalls.decode import polling, scalars, times
from kwatch.syscalls.decode.sets import Cached, named_set
from kwatch.syscalls.decode.structs import struct_show
from kwatch.syscalls.decode.style import Pieces
from kwatch.wire.events import Abi

#: The text of a result, from it, the registers and the pieces.
Result = Callable[[int, Sequence[int], Pieces], str]

MAX_ERRNO = 4095
#: Results that never reach the program: include/linux/errno.h.
_RESTARTS = {
    512: "ERESTARTSYS (To be restarted if SA_RESTART is set)",
    513: "ERESTARTNOINTR (To be restarted)",
    514: "ERESTARTNOHAND (To be restarted if no handler)",
    516: "ERESTART_RESTARTBLOCK (Interrupted by signal)",
}


def error_texts(abi: Abi) -> Cached:
    """`-1 ENOENT (No such file or directory)` by the negative result."""
    names = named_set("errno", abi)
    assert names is not None

    def text(result: int) -> str:
        number = -result
        if number in _RESTARTS:
            return f"? {_RESTARTS[number]}"
        name = names[number]
        if name == str(number):
            return f"-1 (errno {number})"
        return f"-1 {name} ({os.strerror(number)})"

    return Cached(text)


def result_show(name: str, abi: Abi) -> Result | None:
    """How a call that did not fail shows its result; None for a plain decimal number."""
    if name in ("int", "fd", "pid"):
        return None
    if name == "hex":
        return lambda r, a, d: f"{r & 0xFFFFFFFFFFFFFFFF:#x}" if r else "0"
    if name == "mode_result":
        return lambda r, a, d: scalars.mode(r)
    if name in _IN_WORDS:
        return _in_words(name, abi)
    return _DESCRIBED[name](abi)


#: Results that are flags or constants, which strace adds in words.
_IN_WORDS = {
    "open_flags_result": ("open_flags", "flags ", True),
    "fd_flags_result": ("fd_flags", "flags ", True),
    "seals_result": ("seals", "seals ", True),
    "lease_result": ("lease", "", True),
    "membarrier_result": ("membarrier_commands", "", True),
    "dumpable_result": ("dumpable", "", False),
    "personality_result": ("personality", "", True),
    "sched_policy_result": ("sched_policy", "", False),
    "time_state": ("time_state", "", False),
}


def _in_words(name: str, abi: Abi) -> Result:
    known, label, in_hex = _IN_WORDS[name]
    texts = named_set(known, abi)
    assert texts is not None

    def show(r: int, a: Sequence[int], d: Pieces) -> str:
        if name == "fd_flags_result" and not r:
            return "0"
        number = f"{r:#x}" if r and in_hex else str(r)
        return f"{number} ({label}{texts[r]})"

    return show


def _poll(abi: Abi) -> Result:
    ready = polling.ready_show(abi)

    def show(r: int, a: Sequence[int], d: Pieces) -> str:
        if not r:
            return "0 (Timeout)"
        data = d[6]
        left = left_of(d)
        return str(r) if data is None else f"{r} ({ready(data)}{left})"

    left_of = _left(2, "timespec", abi)
    return show


def _left(register: int, name: str, abi: Abi) -> Callable[[Pieces], str]:
    """What was left of the timeout, which the kernel writes back."""
    show = struct_show(name, abi, {})
    assert show is not None

    def left(d: Pieces) -> str:
        data = d[6 + register]
        return "" if data is None else f", left {show(data)}"

    return left


def _select(name: str, abi: Abi) -> Result:
    left_of = _left(4, name, abi)

    def show(r: int, a: Sequence[int], d: Pieces) -> str:
        if not r:
            return "0 (Timeout)"
        parts = []
        for label, register in (("in", 1), ("out", 2), ("except", 3)):
            data = d[6 + register]
            if data is not None and any(data):
                parts.append(f"{label} {polling.fd_set_text(data, a[0])}")
        return f"{r} ({', '.join(parts)}{left_of(d)})" if parts else str(r)

    return show


def _signal(abi: Abi) -> Result:
    return lambda r, a, d: f"{r} ({scalars.signal(r)})"


def _fcntl(abi: Abi) -> Result:
    return lambda r, a, d: f"{r:#x}" if r else "0"


_DESCRIBED: dict[str, Callable[[Abi], Result]] = {
    "poll": _poll,
    "select": lambda abi: _select("timeval", abi),
    "pselect": lambda abi: _select("timespec", abi),
    "signal_result": _signal,
    "fcntl": _fcntl,
    "time_result": lambda abi: lambda r, a, d: f"{r} ({times.date(r)})",
}
