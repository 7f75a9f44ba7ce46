# SPDX-License-Identifier: Apache-2.0
"""Processes that take a new name: execs and renames from the kernel's process connector."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Protocol

from kwatch.errors import KwatchError


class _Socket(Protocol):
    def fileno(self) -> int: ...
    def get(self) -> Iterator[dict[str, int | str]]: ...
    def close(self) -> None: ...


class Connector:
    """A netlink socket that is readable when some process has exec'ed or renamed itself."""

    def __init__(self) -> None:
        from pyroute2.netlink.connector.cn_proc import ProcEventSocket

        try:
            socket = ProcEventSocket()
            socket.bind()
            socket.control(listen=True)
        except OSError as error:
            raise KwatchError(
                f"the process connector cannot be used: {error}",
                "run kwatch as root in the initial network namespace; see `kwatch doctor`",
            ) from error
        self._socket: _Socket = socket

    def fileno(self) -> int:
        return self._socket.fileno()

    def renamed(self) -> set[int] | None:
        """Reads what has come: pids of processes with a new name; None: some were lost."""
        pids = set()
        try:
            messages = list(self._socket.get())
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return None
            raise
        for message in messages:
            if message.get("event") in ("PROC_EVENT_EXEC", "PROC_EVENT_COMM"):
                pids.add(int(message["process_tgid"]))
        return pids

    def close(self) -> None:
        self._socket.close()
