# SPDX-License-Identifier: Apache-2.0
"""The client of the heap scanner: starts the process, and asks it for one scan at a time."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass

from kwatch.aggregate.order import U64
from kwatch.errors import KwatchError
from kwatch.model.reach import Amount
from kwatch.reach.block_table import ADDRESSES, JUDGED, Table, from_file, to_file
from kwatch.reach.held import HeldMemory
from kwatch.reach.holder_sums import HOLDING, HolderSums, RootSum
from kwatch.reach.left_state import LeftState
from kwatch.reach.scan_process import serve
from kwatch.system.child import end_server, start_server
from kwatch.system.messages import Closed, Message, receive, send

_ENDED = "the heap scanner has ended"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known after a scan. `table`: the blocks, when no further scan is needed.

    `error`: why there was no scan; then the other fields mean nothing. `unreadable`: bytes.
    """

    error: str = ""
    scans: int = 0
    is_settled: bool = False
    is_over: bool = True
    seconds: float = 0.0
    blind_threads: int = 0
    unreadable: int = 0
    is_walked: bool = False
    unwalked: tuple[str, ...] = ()
    table: Table | None = None


class Scanner:
    """`on_start` is called with the pid of each process before its exec, `on_end` before its pid
    can be reused."""

    def __init__(self, on_start: Callable[[int], None], on_end: Callable[[int], None]) -> None:
        self._on_start = on_start
        self._on_end = on_end
        self._pid = 0
        self._socket: socket.socket | None = None
        self._poll = select.epoll()

    def fileno(self) -> int:
        """Readable when an answer has arrived."""
        return self._poll.fileno()

    @property
    def has_answer(self) -> bool:
        """Whether `answer` would not wait."""
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Waits for an answer; returns whether there is one."""
        return self._socket is None or bool(self._poll.poll(seconds))

    def ask(self, pid: int, known: Table | None, is_first: bool) -> None:
        """Asks for one scan. `is_first`: earlier scans are of another moment or process.

        Raises OSError if the scanner cannot be started.
        """
        self._send({"pid": pid, "is_first": is_first, "has_ended": False}, known, [])

    def ask_about(self, held: HeldMemory, left: LeftState, known: Table | None) -> None:
        """Asks for the scan of what a process has left behind. Raises OSError."""
        state = left.to_file()
        try:
            request = {"pid": held.pid, "is_first": True, "has_ended": True}
            self._send(request, known, [state, *held.descriptors])
        finally:
            os.close(state)

    def ask_who(self, pid: int, known: Table, addresses: U64) -> None:
        """Asks what holds these blocks, which are sorted. Raises OSError."""
        file = to_file(addresses.astype(ADDRESSES))
        try:
            self._send({"pid": pid, "asks_who": True}, known, [file])
        finally:
            os.close(file)

    def answer_who(self) -> HolderSums:
        """Waits for the answer to `ask_who`. Raises KwatchError."""
        if self._socket is None:
            raise KwatchError(_ENDED)
        try:
            message, files = receive(self._socket)
        except Closed:
            self.stop()
            raise KwatchError(_ENDED) from None
        if "error" in message:
            raise KwatchError(message["error"])
        roots = tuple(RootSum(*one) for one in message["roots"])
        found = Amount(message["blocks"], message["bytes"])
        return HolderSums(found, roots, from_file(files[0], HOLDING))

    def _send(self, request: Message, known: Table | None, files: list[int]) -> None:
        self.start()
        request = {"asks_who": False, "knows": known is not None} | request
        tables = [] if known is None else [to_file(known)]
        try:
            if self._socket is not None:
                send(self._socket, request, [*tables, *files])
        except Closed:
            self.stop()  # `answer` tells
        finally:
            for file in tables:
                os.close(file)

    def answer(self) -> Answer:
        """Waits for the answer to `ask`."""
        if self._socket is None:
            return Answer(_ENDED)
        try:
            message, files = receive(self._socket)
        except Closed:
            self.stop()
            return Answer(_ENDED)
        table = from_file(files[0], JUDGED) if files else None
        if "error" in message:
            return Answer(message["error"])
        message["unwalked"] = tuple(message["unwalked"])
        return Answer(table=table, **message)

    def stop(self) -> None:
        if self._socket is None:
            return
        sock, self._socket = self._socket, None
        end_server(self._pid, sock, self._on_end)
        self._pid = 0

    def close(self) -> None:
        self.stop()
        self._poll.close()

    def start(self) -> None:
        """Starts the process if there is none. Raises OSError."""
        if self._socket is not None:
            return
        self._pid, self._socket = start_server(serve, with_packages=True)
        self._poll.register(self._socket, select.EPOLLIN)
        self._on_start(self._pid)
        self._socket.send(b"\0")
