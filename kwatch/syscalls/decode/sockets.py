# SPDX-License-Identifier: Apache-2.0
"""Addresses of sockets, and messages with their control data."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence

from kwatch.syscalls.calls import Argument, Call
from kwatch.syscalls.decode import text
from kwatch.syscalls.decode.sets import named_set
from kwatch.syscalls.decode.style import Pieces, Show, Style
from kwatch.syscalls.kinds import Source
from kwatch.syscalls.layouts import layout
from kwatch.wire.events import Abi

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK, _AF_PACKET = 1, 2, 10, 16, 17
_FAMILY_SIZE = 2
_SOL_SOCKET, _SCM_RIGHTS, _SCM_CREDENTIALS = 1, 1, 2


def address_show(abi: Abi) -> Callable[[bytes], str]:
    """The address in all of these bytes: `{sa_family=AF_INET, sin_port=htons(80), ...}`."""
    families = named_set("address_family", abi)
    if families is None:
        raise KeyError("the table lacks address_family")

    def show(data: bytes) -> str:
        if len(data) < _FAMILY_SIZE:
            return "{...}"
        family = int.from_bytes(data[:2], "little")
        head = f"sa_family={families[family]}"
        rest = _BY_FAMILY.get(family, _unknown)(data)
        return "{" + (f"{head}, {rest}" if rest else head) + "}"

    return show


def _unix(data: bytes) -> str:
    path = data[2:]
    if not path:
        return ""
    if path[0]:
        end = path.find(0)
        return f'sun_path="{text.escaped(path if end < 0 else path[:end])}"'
    return f'sun_path=@"{text.escaped(path[1:])}"'


def _inet(data: bytes) -> str:
    if len(data) < 8:
        return _unknown(data)
    port = int.from_bytes(data[2:4], "big")
    return f'sin_port=htons({port}), sin_addr=inet_addr("{socket.inet_ntoa(data[4:8])}")'


def _inet6(data: bytes) -> str:
    if len(data) < 24:
        return _unknown(data)
    port, flow = int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:8], "big")
    written = socket.inet_ntop(socket.AF_INET6, data[8:24])
    parts = [
        f"sin6_port=htons({port})",
        f"sin6_flowinfo=htonl({flow})",
        f'inet_pton(AF_INET6, "{written}", &sin6_addr)',
    ]
    if len(data) >= 28:
        parts.append(f"sin6_scope_id={int.from_bytes(data[24:28], 'little')}")
    return ", ".join(parts)


def _netlink(data: bytes) -> str:
    if len(data) < 12:
        return _unknown(data)
    pid, groups = struct.unpack_from("<iI", data, 4)
    return f"nl_pid={pid}, nl_groups={groups:08x}"


def _packet(data: bytes) -> str:
    if len(data) < 12:
        return _unknown(data)
    protocol, index, hardware, kind, length = struct.unpack_from(
        ">H", data, 2
    ) + struct.unpack_from("<iHBB", data, 4)
    octets = ", ".join(f"{byte:#04x}" for byte in data[12 : 12 + length])
    listed = f", sll_addr=[{octets}]" if length else ""
    return (
        f"sll_protocol=htons({protocol:#x}), sll_ifindex={index}, sll_hatype={hardware}, "
        f"sll_pkttype={kind}, sll_halen={length}{listed}"
    )


def _unknown(data: bytes) -> str:
    rest = data[2:]
    return f'sa_data="{text.escaped(rest)}"' if rest else ""


_BY_FAMILY: dict[int, Callable[[bytes], str]] = {
    _AF_UNIX: _unix,
    _AF_INET: _inet,
    _AF_INET6: _inet6,
    _AF_NETLINK: _netlink,
    _AF_PACKET: _packet,
}


def control_show(abi: Abi, descriptor: Callable[[int], str] = str) -> Callable[[bytes], str]:
    """Control data: `[{cmsg_len=20, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, ...}]`."""
    found, levels = layout("cmsghdr", abi), named_set("sockopt_level", abi)
    types = named_set("cmsg_socket", abi)
    if found is None or levels is None or types is None:
        raise KeyError("the table lacks cmsghdr")
    align = found.member("cmsg_len").size

    def show(data: bytes) -> str:
        parts, at = [], 0
        while at + found.size <= len(data):
            known = found.values(data, at)
            length, level, kind = known["cmsg_len"], known["cmsg_level"], known["cmsg_type"]
            named = types[kind] if level == _SOL_SOCKET else f"{kind:#x}"
            body = data[at + found.size : at + length]
            head = f"cmsg_len={length}, cmsg_level={levels[level]}, cmsg_type={named}"
            shown = _control_body(level, kind, body, descriptor)
            parts.append("{" + (f"{head}, cmsg_data={shown}" if shown else head) + "}")
            if length < found.size:
                break
            at += -(-length // align) * align
        return f"[{', '.join(parts)}]"

    return show


def _control_body(level: int, kind: int, body: bytes, descriptor: Callable[[int], str]) -> str:
    if level == _SOL_SOCKET and kind == _SCM_RIGHTS:
        count = len(body) // 4
        return f"[{', '.join(map(descriptor, struct.unpack_from(f'<{count}i', body)))}]"
    if level == _SOL_SOCKET and kind == _SCM_CREDENTIALS and len(body) >= 12:
        pid, uid, gid = struct.unpack_from("<iII", body)
        return f"{{pid={pid}, uid={uid}, gid={gid}}}"
    return f'"{"".join(f"{chr(92)}x{byte:02x}" for byte in body)}"' if body else ""


def sockaddr_maker(call: Call, argument: Argument, style: Style) -> Show:
    show, length = address_show(style.abi), argument.kind.length
    assert length is not None
    word = call.arguments[call.position(length.argument)].word
    if length.source is Source.ARGUMENT:
        return lambda data, a, r, d: show(data[: a[word] & 0xFFFFFFFF])

    def out(data: bytes, a: Sequence[int], r: int, d: Pieces) -> str:
        asked, got = _number(d[word]), _number(d[6 + word])
        return show(data[: min(asked, got)])

    return out


def _number(piece: bytes | None) -> int:
    return int.from_bytes(piece[:4], "little") if piece is not None else 128


def option_maker(call: Call, argument: Argument, style: Style) -> Show:
    """The value of a socket's option: a number if it is as long as one."""

    def show(data: bytes, a: Sequence[int], r: int, d: Pieces) -> str:
        if len(data) == 4:
            return f"[{int.from_bytes(data, 'little', signed=True)}]"
        return text.quoted(data, len(data), style.strings)

    return show
