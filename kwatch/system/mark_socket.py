# SPDX-License-Identifier: Apache-2.0
"""Abstract sockets through which `kwatch mark` finds every `kwatch --mark`, and what they say.

The request is a pid. Each answer is a JSON object. The first has the `mark` that was set, 0 if the
process is not traced; it has an `error` instead if the user may not set marks. The second, for
every mark but the first, has the `blocks` and `bytes` since the mark before, in `processes`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import struct
from pathlib import Path

_PREFIX = "kwatch-mark-"
_LISTED = re.compile(rf" @({_PREFIX}\d+-[0-9a-f]+)$", re.MULTILINE)
_SIZE = 4096  # no request and no answer is longer
_BACKLOG = 16
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid: struct ucred
_SOCKETS = Path("/proc/net/unix")


def listener() -> socket.socket:
    """Listens under a name that nobody can take before. Raises OSError."""
    made = _socket()
    try:
        made.setblocking(False)
        made.bind(f"\0{_PREFIX}{os.getpid()}-{secrets.token_hex(8)}")
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def listening() -> list[str]:
    """The names of all listeners in this network namespace, of any user. Raises OSError."""
    return sorted(set(_LISTED.findall(_SOCKETS.read_text(errors="replace"))))


def connected(name: str, seconds: float) -> socket.socket:
    """Raises OSError if nobody listens any more, or accepts for so long."""
    made = _socket()
    try:
        made.settimeout(seconds)
        made.connect(f"\0{name}")
    except OSError:
        made.close()
        raise
    return made


def peer(connection: socket.socket) -> tuple[int, int]:
    """The pid and the user of the other end, as the kernel knows them."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(found)
    return pid, user


def is_trusted(user: int) -> bool:
    """Only root and the same user are."""
    return user in (0, os.geteuid())


def request(connection: socket.socket, pid: int) -> None:
    """Asks for a mark. If the other end has gone, the answer is empty."""
    with contextlib.suppress(BrokenPipeError, ConnectionError):
        connection.send(str(pid).encode())


def requested(connection: socket.socket) -> int | None:
    """The pid of a request; None if there is none, or no valid one."""
    try:
        text = connection.recv(_SIZE)
    except OSError:
        return None
    return int(text) if text.isdigit() and len(text) <= len(str(1 << 22)) else None


def send(connection: socket.socket, **said: int | str) -> None:
    """Nobody waits for a client that does not read, or has gone."""
    with contextlib.suppress(OSError):
        connection.send(json.dumps(said).encode(), socket.MSG_DONTWAIT)


def answer(connection: socket.socket) -> dict[str, int | str]:
    """The next answer; empty if the other end has gone. Raises TimeoutError."""
    try:
        text = _received(connection)
    except ConnectionError:
        return {}
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def _received(connection: socket.socket) -> bytes:
    """What the other end said may follow the error that it did not read the request."""
    try:
        return connection.recv(_SIZE)
    except ConnectionResetError:
        return connection.recv(_SIZE)


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
