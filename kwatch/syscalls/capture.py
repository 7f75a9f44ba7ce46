# SPDX-License-Identifier: Apache-2.0
"""The capture plan: the table of calls as data for the maps of one BPF program.

What the rows mean stands in capture_format.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.syscalls import calls
from kwatch.syscalls.calls import NARROW, Argument, Call
from kwatch.syscalls.capture_format import (
    IN_ORDER,
    LOW_32,
    NO_LIMIT,
    NO_SELECTOR,
    ROW,
    VARIANT,
    From,
    Nested,
    RowFlag,
    Selector,
    What,
    When,
)
from kwatch.syscalls.constants import ioctl_numbers, numbers
from kwatch.syscalls.kinds import INTS, NESTED, Kind, Source, counts_bytes
from kwatch.syscalls.layouts import layout
from kwatch.wire.events import Abi
from kwatch.wire.maps import CALL_NUMBERS, IPC_NUMBERS

_PATH_MAX = 4096
_MAX_BYTES = 65535
_UNLIMITED = NO_LIMIT << 4
_STRINGS = frozenset({"path", "str"})
_CONTENT = frozenset({"data", "msgbuf"})
_NESTED = {
    "iovec": Nested.IOVEC,
    "msghdr": Nested.MSGHDR,
    "mmsghdr": Nested.MMSGHDR,
    "strings": Nested.STRINGS,
    "sigset_argument": Nested.POINTER,
    "aio_sigset": Nested.POINTER,
}
#: ipc(2): which of its registers are the arguments of the call inside.
_IPC_ORDER = {
    "semop": (1, 4, 2),
    "semget": (1, 2, 3),
    "semctl": (1, 2, 3, 4),
    "semtimedop": (1, 4, 2, 5),
    "msgsnd": (1, 4, 2, 3),
    "msgrcv": (1, 4, 2, 5, 3),
    "msgget": (1, 2),
    "msgctl": (1, 2, 4),
    "shmat": (1, 4, 2),
    "shmdt": (4,),
    "shmget": (1, 2, 3),
    "shmctl": (1, 2, 4),
}
_SELECTORS = {
    "sockopt": Selector.SOCKET_LEVEL,
    "futex_op": Selector.LOW_7_BITS,
    **dict.fromkeys(("shm_command", "msg_command", "sem_command"), Selector.WITHOUT_IPC_64),
}


class Limits(NamedTuple):
    """Most bytes of each kind: content of buffers (0 for none), a string, and anything else."""

    content: int = 0
    string: int = _PATH_MAX
    other: int = _PATH_MAX


STATUS_ONLY = Limits()


def plan(abi: Abi, limits: Limits = STATUS_ONLY) -> npt.NDArray[np.void]:
    """A row (ROW) for each number of the ABI, CALL_NUMBERS of them; unknown ones are zero."""
    rows = np.zeros(CALL_NUMBERS, ROW)
    for nr in range(CALL_NUMBERS):
        call = calls.call(abi, nr)
        if call is not None:
            rows[nr] = _row(abi, nr, call, limits)
    return rows


def variants(abi: Abi, limits: Limits = STATUS_ONLY) -> npt.NDArray[np.void]:
    """The rows (VARIANT) of calls that depend on a command, sorted by number and command."""
    found: dict[tuple[int, int], Any] = {}
    for nr in range(CALL_NUMBERS):
        call = calls.call(abi, nr)
        if call is None or call.command is None:
            continue
        commands = command_numbers(abi, call)
        for name in calls.variants(call.name):
            variant = calls.named(abi, call.name, name)
            if variant is not None and name in commands:
                found[nr, commands[name]] = _row(abi, nr, variant, limits)
    rows = np.zeros(len(found), VARIANT)
    for row, (key, made) in zip(rows, sorted(found.items(), key=lambda item: item[0]), strict=True):
        row["number"], row["command"] = key
        row["row"] = made
    return rows


def command_numbers(abi: Abi, call: Call) -> dict[str, int]:
    """The commands of a call by name, as the plan's key: options of sockets with their level."""
    base = call.command.kind.base if call.command else ""
    if base == "ioctl":
        return ioctl_numbers(abi)
    if base == "sockopt":
        level = numbers("sockopt_level", abi)["SOL_SOCKET"]
        return {k: v | level << 16 for k, v in numbers("socket_option", abi).items()}
    return numbers(base, abi)


def _row(abi: Abi, nr: int, call: Call, limits: Limits) -> npt.NDArray[np.void]:
    row = np.zeros((), ROW)
    row["effect"], row["words"], row["flags"] = call.effect, call.words, _flags(call)
    row["selector"], row["order"] = _selector(call), _order(abi, nr, call)
    for argument in call.arguments:
        if argument.word > 5:
            continue
        if argument.kind.base in NESTED:
            row["nested"] = _nested(call, argument, limits)
            row["cells"][argument.word] = _headers(abi, call, argument, limits)
        elif argument.kind.is_pointer:
            row["cells"][argument.word] = _cell(abi, call, argument, limits)
        elif argument.kind.base == "ioctl_argument":
            row["cells"][argument.word] = (
                What.IOCTL,
                0,
                From.CONSTANT,
                _UNLIMITED,
                0,
                limits.other,
            )
    return row


def _flags(call: Call) -> int:
    return RowFlag.KNOWN | (RowFlag.INDIRECT if call.name == "socketcall" else 0)


def _headers(abi: Abi, call: Call, argument: Argument, limits: Limits) -> tuple[int, ...]:
    """The headers of messages at the other end of the call: recvmsg's name length, sent lengths."""
    kind = argument.kind
    shape = layout(kind.base, abi)
    if kind.base not in ("msghdr", "mmsghdr") or shape is None:
        return (What.NONE, 0, 0, 0, 0, 0)
    source, operand, scale = _measure(call, kind, shape.size)
    if kind.is_read and kind.base == "mmsghdr":
        return (What.BYTES, When.EXIT, source, operand, scale, limits.other)
    if kind.is_written and kind.base == "msghdr":
        return (What.BYTES, When.ENTRY, source, operand, scale, limits.other)
    return (What.NONE, 0, 0, 0, 0, 0)


def _selector(call: Call) -> int:
    command = call.command
    if command is None:
        return NO_SELECTOR
    return command.word | _SELECTORS.get(command.kind.base, 0)


def _order(abi: Abi, nr: int, call: Call) -> int:
    if abi is Abi.I386 and nr >= IPC_NUMBERS and call.name in _IPC_ORDER:
        return sum(register << 4 * i for i, register in enumerate(_IPC_ORDER[call.name]))
    return IN_ORDER


def _when(kind: Kind) -> int:
    entry = When.ENTRY if kind.is_read else 0
    written = When.EXIT if kind.is_written else 0
    return entry | written | (When.ON_ERROR if kind.also_on_error else 0)


def _cell(abi: Abi, call: Call, argument: Argument, limits: Limits) -> tuple[int, ...]:
    kind = argument.kind
    if kind.base == "words" and kind.length is None:
        return (What.POINTERS, _when(kind), From.CONSTANT, _UNLIMITED, 0, limits.other)
    if kind.base in _STRINGS and kind.length is None:
        return (What.STRING, _when(kind), From.CONSTANT, _UNLIMITED, 0, limits.string)
    if kind.base in _CONTENT and not limits.content:
        return (What.NONE, 0, 0, 0, 0, 0)
    unit = _unit(abi, kind)
    source, operand, scale = _measure(call, kind, unit)
    more = kind.length.more // 4 if kind.length else 0
    most = limits.content if kind.base in _CONTENT else kind.cap or limits.other
    when = _when(kind) | more << 4
    return (What.BYTES, when, source, operand, scale, min(most + 4 * more, _MAX_BYTES))


def _measure(call: Call, kind: Kind, unit: int) -> tuple[int, int, int]:
    """Source, operand and scale of a length."""
    length = kind.length
    if length is None:
        return From.CONSTANT, _UNLIMITED, unit
    if length.source is Source.CONSTANT:
        return From.CONSTANT, _UNLIMITED, unit * length.constant
    limit = _register(call, length.limit) if length.limit else NO_LIMIT
    if length.source is Source.RESULT:
        return From.RESULT, limit << 4, unit
    operand = _register(call, length.argument) | limit << 4
    counted = call.arguments[call.position(length.argument)].kind
    low = LOW_32 if counted.base in INTS and not counted.is_pointer else 0
    if kind.base == "fd_set":
        return From.BITS | low, operand, 1
    if length.divisor > 1:
        return From.PAGES | low, operand, 1
    behind = {Source.POINTEE: From.POINTEE, Source.SECOND: From.SECOND}
    source = behind.get(length.source, From.ARGUMENT | low)
    return source, operand, unit * length.factor


def _register(call: Call, name: str) -> int:
    return call.arguments[call.position(name)].word


def _unit(abi: Abi, kind: Kind) -> int:
    """Bytes of one element, 1 for what has no layout."""
    if kind.length is not None and counts_bytes(kind):
        return 1
    if kind.base == "words":
        return 4 if abi in NARROW else 8
    found = layout(kind.base, abi)
    return found.size if found else 1


def _nested(call: Call, argument: Argument, limits: Limits) -> tuple[int, ...]:
    kind = argument.kind
    source, operand, _ = _measure(call, kind, 1)
    most = limits.string if kind.base == "strings" else limits.content
    when = _when(kind)
    return (_NESTED[kind.base], argument.word, when, source, operand, 0, min(most, _MAX_BYTES))
