# SPDX-License-Identifier: Apache-2.0
"""Messages between kwatch and its helper processes: JSON and open files, on SOCK_SEQPACKET."""

from __future__ import annotations

import json
import os
import socket
from array import array
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]

MAX_MESSAGE = 1 << 16
_MAX_FILES = 4


class Closed(Exception):
    """The other side has ended, or has sent something that is not a message."""


def send(sock: socket.socket, message: Message, files: Sequence[int] = ()) -> None:
    """Raises Closed, and TimeoutError if the socket has a timeout."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", files))] if files else []
    try:
        sock.sendmsg([json.dumps(message).encode()], rights)
    except TimeoutError:
        raise
    except OSError as error:
        raise Closed from error


def receive(sock: socket.socket) -> tuple[Message, list[int]]:
    """The next message and the files that came with it. Raises Closed, TimeoutError."""
    try:
        data, files, _, _ = socket.recv_fds(sock, MAX_MESSAGE, _MAX_FILES)
    except TimeoutError:
        raise
    except OSError as error:
        raise Closed from error
    try:
        message = json.loads(data)
    except ValueError as error:
        for file in files:
            os.close(file)
        raise Closed from error
    return message, files
