# SPDX-License-Identifier: Apache-2.0
"""Messages between kwatch and its symbol reader: a length, then JSON, and maybe a descriptor."""

from __future__ import annotations

import json
import socket
import struct
from array import array
from typing import Any

_LENGTH = struct.Struct("<I")
_MAX_SIZE = 64 << 20

Message = dict[str, Any]


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
