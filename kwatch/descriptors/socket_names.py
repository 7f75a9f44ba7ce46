# SPDX-License-Identifier: Apache-2.0
"""Protocols and addresses of sockets, from the arguments of calls."""

from __future__ import annotations

import socket

from kwatch.syscalls.decode import text

_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_STREAM, _DATAGRAM, _RAW, _SEQPACKET = 1, 2, 3, 5
_TYPE = 0xF
_PROTOCOLS = {
    (_STREAM, 0): "TCP",
    (_STREAM, 6): "TCP",
    (_STREAM, 132): "SCTP",
    (_SEQPACKET, 132): "SCTP",
    (_STREAM, 262): "MPTCP",
    (_DATAGRAM, 0): "UDP",
    (_DATAGRAM, 17): "UDP",
    (_DATAGRAM, 136): "UDPLITE",
    (_DATAGRAM, 1): "PING",
    (_DATAGRAM, 58): "PING",
}


def protocol(family: int, kind: int, number: int) -> str:
    """`TCPv6`; empty for a family whose sockets have no names of their own."""
    kind &= _TYPE
    if family == _UNIX:
        return "UNIX-STREAM" if kind == _STREAM else "UNIX"
    if family == _NETLINK:
        return "NETLINK"
    if family not in (_INET, _INET6):
        return ""
    name = "RAW" if kind == _RAW else _PROTOCOLS.get((kind, number), "")
    return f"{name}v6" if name and family == _INET6 else name


def address(data: bytes) -> str:
    """`127.0.0.1:80`; empty without a port, or for another family."""
    family = int.from_bytes(data[:2], "little")
    port = int.from_bytes(data[2:4], "big")
    if not port:
        return ""
    if family == _INET and len(data) >= 8:
        return f"{socket.inet_ntoa(data[4:8])}:{port}"
    if family == _INET6 and len(data) >= 24:
        return f"[{socket.inet_ntop(socket.AF_INET6, data[8:24])}]:{port}"
    return ""


def unix_path(data: bytes) -> str:
    """`"/run/x"` or `@"x"`; empty without a name, or for another family."""
    if int.from_bytes(data[:2], "little") != _UNIX:
        return ""
    return unix_name(data[2:])


def unix_name(name: bytes) -> str:
    if not name:
        return ""
    if name[0]:
        return f'"{text.escaped(name.partition(bytes(1))[0])}"'
    return f'@"{text.escaped(name[1:])}"'


def is_any(local: str) -> bool:
    """Whether a socket with this address accepts connections to other ones."""
    return local.startswith(("0.0.0.0:", "[::]:"))
