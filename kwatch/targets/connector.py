# SPDX-License-Identifier: Apache-2.0
"""Processes with a new name: execs and renames, from the kernel's process connector."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Protocol

from kwatch.errors import KwatchError

#: Bursts of forks fill it: each message takes about 1 KiB in the kernel.
_RECEIVE_BUFFER = 4 << 20
_SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h
_MAX_MESSAGE = 1 << 12

# include/uapi/linux/cn_proc.h, behind struct nlmsghdr (16 bytes) and struct cn_msg (20): `what`;
# of an exec's and a rename's event, `process_tgid`.
_EVENT = struct.Struct("36x I 16x I")
_EXEC, _COMM = 0x2, 0x200


class _Socket(Protocol):
    def fileno(self) -> int: ...
    def recv(self, size: int, flags: int) -> bytes: ...
    def setsockopt(self, level: int, option: int, value: int) -> None: ...
    def close(self) -> None: ...


class Connector:
    """A netlink socket that is readable when a process has made an exec or renamed itself."""

    def __init__(self, receive_buffer: int = _RECEIVE_BUFFER) -> None:
        from pyroute2.netlink.connector.cn_proc import ProcEventSocket

        try:
            listener = ProcEventSocket()
            listener.bind()
            listener.control(listen=True)
            _set_receive_buffer(listener, receive_buffer)
        except OSError as error:
            raise KwatchError(
                f"the process connector cannot be used: {error}",
                "run kwatch as root in the initial network namespace; see `kwatch doctor`",
            ) from error
        self._socket: _Socket = listener

    def fileno(self) -> int:
        return self._socket.fileno()

    def renamed(self) -> set[int] | None:
        """Returns the pids of processes with a new name; None if messages were lost.

        Does not use pyroute2's own get(), which fails after an overflow.
        """
        pids: set[int] | None = set()
        while True:
            try:
                message = self._socket.recv(_MAX_MESSAGE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return pids
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                pids = None
                continue
            if pids is not None and len(message) >= _EVENT.size:
                what, tgid = _EVENT.unpack_from(message)
                if what in (_EXEC, _COMM):
                    pids.add(tgid)

    def close(self) -> None:
        self._socket.close()


def _set_receive_buffer(listener: _Socket, size: int) -> None:
    """Exceeds net.core.rmem_max if that is permitted."""
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
