# SPDX-License-Identifier: Apache-2.0
"""Messages between kwatch and its symbol reader: a length, then JSON, and maybe a descriptor."""

from __future__ import annotations

import json
import socket
import struct
from array import array
from itertools import chain
from typing import Any

from kwatch.symbols.dwarf.libdw import Location, Place

_LENGTH = struct.Struct("<I")
_MAX_SIZE = 64 << 20

Message = dict[str, Any]


def encode(location: Location) -> list[object]:
    """A location as it stands in a message: flat, because most of an answer is locations."""
    places = chain.from_iterable((p.name, p.file, p.line) for p in location.places)
    return [location.offset, location.signal, *places]


def decode(message: list[object]) -> Location:
    """Whatever the reader sends, the location has the right types."""
    offset, signal, *rest = message
    names, files, lines = rest[::3], rest[1::3], rest[2::3]
    places = tuple(
        Place(str(name), str(file), int(str(line)))
        for name, file, line in zip(names, files, lines, strict=True)
    )
    return Location(places, offset if isinstance(offset, int) else None, bool(signal))


class Closed(Exception):
    """The other side has closed the socket, or sent something that is not a message."""


def send(sock: socket.socket, message: Message, fd: int | None = None) -> None:
    """Raises Closed, and TimeoutError if the socket has a timeout."""
    data = json.dumps(message).encode()
    files = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fd]))] if fd is not None else []
    try:
        sent = sock.sendmsg([_LENGTH.pack(len(data)), data], files)
        sock.sendall((_LENGTH.pack(len(data)) + data)[sent:])
    except TimeoutError:
        raise
    except OSError as error:
        raise Closed from error


def receive(sock: socket.socket) -> tuple[Message, int | None]:
    """The next message, and the descriptor that came with it. Raises Closed, TimeoutError."""
    try:
        head, files, _, _ = socket.recv_fds(sock, _LENGTH.size, 1)
        fd = files[0] if files else None
        head += _exactly(sock, _LENGTH.size - len(head)) if head else b""
        if not head:
            raise Closed
        size = _LENGTH.unpack(head)[0]
        if size > _MAX_SIZE:
            raise Closed
        return json.loads(_exactly(sock, size)), fd
    except TimeoutError:
        raise
    except (OSError, ValueError) as error:
        raise Closed from error


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = sock.recv(min(size - len(data), 1 << 20))
        if not chunk:
            raise Closed
        data += chunk
    return bytes(data)
