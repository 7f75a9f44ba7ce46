# SPDX-License-Identifier: Apache-2.0
"""Addresses of the sockets of the system by inode, from the kernel's socket diagnostics."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from kwatch.descriptors import socket_names
from kwatch.descriptors.source import Endpoints
from kwatch.syscalls.decode.sets import named_set
from kwatch.wire.events import Abi

_ALL_STATES = 0xFFFFFFFF
_SHOW_NAME, _SHOW_PEER = 1, 4
_STREAM = 1
_INTERNET = (
    ("TCP", socket.AF_INET, socket.IPPROTO_TCP),
    ("UDP", socket.AF_INET, socket.IPPROTO_UDP),
    ("TCPv6", socket.AF_INET6, socket.IPPROTO_TCP),
    ("UDPv6", socket.AF_INET6, socket.IPPROTO_UDP),
)


class LiveSockets:
    """Reads all sockets at the first question, or before."""

    def __init__(self) -> None:
        self._found: dict[int, Endpoints] | None = None

    def read(self) -> dict[int, Endpoints]:
        if self._found is None:
            self._found = dict(_all())
        return self._found

    def endpoints(self, inode: int) -> Endpoints | None:
        return self.read().get(inode)


def _all() -> Iterator[tuple[int, Endpoints]]:
    from pyroute2 import DiagSocket
    from pyroute2.netlink.exceptions import NetlinkError

    yield from _netlink()
    with DiagSocket() as diagnostics:
        diagnostics.bind()
        with suppress(NetlinkError, OSError):
            show = _SHOW_NAME | _SHOW_PEER
            for found in diagnostics.get_sock_stats(socket.AF_UNIX, _ALL_STATES, show=show):
                yield found["udiag_ino"], _unix(found)
        for name, family, protocol in _INTERNET:
            with suppress(NetlinkError, OSError):
                for found in diagnostics.get_sock_stats(family, _ALL_STATES, protocol):
                    if found["idiag_inode"] and found["idiag_sport"]:
                        yield found["idiag_inode"], _internet(name, found)


def _unix(found: Any) -> Endpoints:
    name = found.get_attr("UNIX_DIAG_NAME") or b""
    data = name.encode(errors="surrogateescape") if isinstance(name, str) else bytes(name)
    protocol = "UNIX-STREAM" if found["udiag_type"] == _STREAM else "UNIX"
    peer = found.get_attr("UNIX_DIAG_PEER")
    path = socket_names.unix_name(data)
    return Endpoints(protocol, str(found["udiag_ino"]), str(peer) if peer else "", path)


def _internet(name: str, found: Any) -> Endpoints:
    local = _address(found["idiag_src"], found["idiag_sport"])
    peer = _address(found["idiag_dst"], found["idiag_dport"]) if found["idiag_dport"] else ""
    return Endpoints(name, local, peer)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _netlink() -> Iterator[tuple[int, Endpoints]]:
    families = named_set("netlink_family", Abi.X86_64)
    assert families is not None
    with suppress(OSError):
        for line in Path("/proc/net/netlink").read_text().splitlines()[1:]:
            _, family, port, *_, inode = line.split()
            name = families[int(family)].removeprefix("NETLINK_")
            yield int(inode), Endpoints("NETLINK", f"{name}:{port}")
