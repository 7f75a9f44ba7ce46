# SPDX-License-Identifier: Apache-2.0
"""Arguments whose text or presence depends on other arguments.

Each entry makes a function of the registers, the result and the pieces that gives the text with
its separator, or nothing where strace leaves the argument out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kwatch.syscalls.calls import NARROW, Argument, Call
from kwatch.syscalls.constants import numbers
from kwatch.syscalls.decode import scalars
from kwatch.syscalls.decode.requests import request_texts
from kwatch.syscalls.decode.sets import Cached, named_set
from kwatch.syscalls.decode.style import Pieces, Style

Text = Callable[[Sequence[int], int, Pieces], str]
Make = Callable[[Call, Argument, Style], Text]

_AF_INET, _AF_INET6, _AF_NETLINK, _AF_PACKET = 2, 10, 16, 17
_PRIVATE, _REALTIME = 128, 256
_ALL = 0xFFFFFFFF
_IPC_64 = 0x100
_S_IFMT, _S_IFCHR, _S_IFBLK = 0o170000, 0o020000, 0o060000


def _separated(argument: Argument, text: Text) -> Text:
    """With a comma before all but the first argument."""
    if argument.word == 0:
        return text
    return lambda a, r, d: f", {text(a, r, d)}"


def _create_mode(call: Call, argument: Argument, style: Style) -> Text:
    """The mode counts only where open may make a file."""
    known = numbers("open_flags", style.abi)
    creates, unnamed = known["O_CREAT"], known["O_TMPFILE"] & ~known["O_DIRECTORY"]
    flags = argument.word - 1
    return lambda a, r, d: (
        f", {scalars.mode(a[flags + 1])}" if a[flags] & (creates | unnamed) else ""
    )


def _special_device(call: Call, argument: Argument, style: Style) -> Text:
    mode = argument.word - 1
    return lambda a, r, d: (
        f", {scalars.device(a[mode + 1] & 0xFFFFFFFF)}"
        if a[mode] & _S_IFMT in (_S_IFCHR, _S_IFBLK)
        else ""
    )


def _remap_address(call: Call, argument: Argument, style: Style) -> Text:
    known = numbers("mremap_flags", style.abi)
    fixed = known["MREMAP_FIXED"] | known["MREMAP_DONTUNMAP"]
    return lambda a, r, d: f", {a[4]:#x}" if a[3] & fixed else ""


def _protocol(call: Call, argument: Argument, style: Style) -> Text:
    internet, netlink = named_set("ip_protocol", style.abi), named_set("netlink_family", style.abi)
    assert internet is not None
    ethernet = named_set("ethernet_protocol", style.abi)
    assert netlink is not None
    assert ethernet is not None

    def text(a: Sequence[int], r: int, d: Pieces) -> str:
        family, protocol = a[0] & 0xFFFFFFFF, a[2] & 0xFFFFFFFF
        if family in (_AF_INET, _AF_INET6):
            return internet[protocol]
        if family == _AF_NETLINK:
            return netlink[protocol]
        if family == _AF_PACKET:
            number = (protocol & 0xFF) << 8 | protocol >> 8 & 0xFF
            return f"htons({ethernet[number]})" if number else "htons(0 /* ETH_P_??? */)"
        return str(protocol)

    return _separated(argument, text)


#: Options by level, in the sets of constants.
_OPTIONS = {
    1: "socket_option",
    0: "ip_option",
    41: "ip6_option",
    6: "tcp_option",
    17: "udp_option",
    263: "packet_option",
    270: "netlink_option",
}


def _socket_option(call: Call, argument: Argument, style: Style) -> Text:
    texts = {level: named_set(name, style.abi) for level, name in _OPTIONS.items()}

    def text(a: Sequence[int], r: int, d: Pieces) -> str:
        known = texts.get(a[1] & 0xFFFFFFFF)
        return str(a[2] & 0xFFFFFFFF) if known is None else known[a[2] & 0xFFFFFFFF]

    return _separated(argument, text)


def _futex_operation(call: Call, argument: Argument, style: Style) -> Text:
    names = numbers("futex_op", style.abi)
    by_number = {value: name for name, value in names.items()}

    def text(value: int) -> str:
        operation = value & 0xFFFFFFFF
        name = by_number.get(operation & ~(_PRIVATE | _REALTIME))
        if name is None:
            return f"{operation:#x} /* FUTEX_??? */"
        private = "_PRIVATE" if operation & _PRIVATE else ""
        return f"{name}{private}" + ("|FUTEX_CLOCK_REALTIME" if operation & _REALTIME else "")

    known = Cached(text)
    return _separated(argument, lambda a, r, d: known[a[1]])


def _futex_mask(call: Call, argument: Argument, style: Style) -> Text:
    def text(a: Sequence[int], r: int, d: Pieces) -> str:
        mask = a[5] & 0xFFFFFFFF
        return "FUTEX_BITSET_MATCH_ANY" if mask == 0xFFFFFFFF else f"{mask:#x}"

    return _separated(argument, text)


def _request(call: Call, argument: Argument, style: Style) -> Text:
    known = request_texts(style.abi)
    return _separated(argument, lambda a, r, d: known[a[1]])


def _request_argument(call: Call, argument: Argument, style: Style) -> Text:
    """What an unknown request's argument means nobody can say: its address."""
    mask = (1 << (32 if style.abi in NARROW else 64)) - 1
    return lambda a, r, d: f", {a[2] & mask:#x}" if a[2] & mask else ", 0"


def _clock(call: Call, argument: Argument, style: Style) -> Text:
    names = named_set("clock", style.abi)
    assert names is not None
    known = Cached(lambda value: scalars.clock_id(value) or names[value])
    word = argument.word
    return _separated(argument, lambda a, r, d: known[a[word]])


def _position(call: Call, argument: Argument, style: Style) -> Text:
    """preadv's position: one register, or two halves."""
    word = argument.word
    if style.abi not in NARROW:
        return _separated(argument, lambda a, r, d: str(scalars.int64(a[word])))
    return _separated(
        argument, lambda a, r, d: str(scalars.int64(a[word] & 0xFFFFFFFF | a[word + 1] << 32))
    )


def _personality(call: Call, argument: Argument, style: Style) -> Text:
    """All bits ask for the present one."""
    known = named_set("personality", style.abi)
    assert known is not None
    return lambda a, r, d: "0xffffffff" if a[0] & _ALL == _ALL else known[a[0]]


def _halves(call: Call, argument: Argument, style: Style) -> Text:
    """A 64-bit offset, the upper half first."""
    word = argument.word

    def text(a: Sequence[int], r: int, d: Pieces) -> str:
        return f", {scalars.int64(a[word] << 32 | a[word + 1] & _ALL)}"

    return text


def _ipc_command(call: Call, argument: Argument, style: Style) -> Text:
    """The command of shmctl and the like, which C libraries of 32-bit ABIs mark as of IPC_64."""
    known = named_set(argument.kind.base, style.abi)
    assert known is not None
    word = argument.word

    def text(a: Sequence[int], r: int, d: Pieces) -> str:
        mark = "IPC_64|" if a[word] & _IPC_64 else ""
        return f", {mark}{known[a[word] & ~_IPC_64]}"

    return text


def _pages(call: Call, argument: Argument, style: Style) -> Text:
    word = argument.word
    return _separated(
        argument, lambda a, r, d: f"{(a[word] & 0xFFFFFFFF) << 12:#x}" if a[word] else "0"
    )


#: By call and argument, or by kind alone.
CONDITIONAL: dict[tuple[str, str], Make] = {
    ("", "create_mode"): _create_mode,
    ("mknod", "dev"): _special_device,
    ("mknodat", "dev"): _special_device,
    ("mremap", "new_addr"): _remap_address,
    ("", "socket_protocol"): _protocol,
    ("", "sockopt"): _socket_option,
    ("", "futex_op"): _futex_operation,
    ("", "futex_mask"): _futex_mask,
    ("", "ioctl"): _request,
    ("", "ioctl_argument"): _request_argument,
    ("", "clock"): _clock,
    ("", "pos"): _position,
    ("", "personality_or_query"): _personality,
    ("", "pages"): _pages,
    ("", "halves"): _halves,
    ("", "shm_command"): _ipc_command,
    ("", "msg_command"): _ipc_command,
    ("", "sem_command"): _ipc_command,
}
