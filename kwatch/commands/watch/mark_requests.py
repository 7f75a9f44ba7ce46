# SPDX-License-Identifier: Apache-2.0
"""Where marks come from: SIGUSR1, the terminal, and `kwatch mark`."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

from kwatch.errors import KwatchError
from kwatch.system import mark_socket
from kwatch.system.terminal_lines import InBackground, TerminalLines
from kwatch.system.user_signal import UserSignal

_KEY = b"m"
_MAX_CLIENTS = 64
_BACKGROUND_S = 1.0  # between looks whether the terminal is kwatch's again
_GONE = select.EPOLLHUP | select.EPOLLERR


class Request:
    """Somebody wants a mark. `pid`: only if this process is traced; 0 for the user of kwatch."""

    def __init__(self, pid: int = 0, client: socket.socket | None = None) -> None:
        self.pid = pid
        self._client = client

    def answer(self, **said: int) -> None:
        if self._client is not None:
            mark_socket.send(self._client, **said)

    def end(self) -> None:
        if self._client is not None:
            self._client.close()


class MarkRequests:
    """Make it before there are other threads: see UserSignal. `has_command`: the terminal is the
    command's.
    """

    def __init__(self, has_command: bool) -> None:
        """Raises KwatchError."""
        self._clients: dict[int, socket.socket] = {}
        self._looks_at = 0.0  # in the background, the terminal is not polled until then
        with ExitStack() as stack:
            self._poll = stack.enter_context(closing(select.epoll()))
            self._signal = stack.enter_context(closing(UserSignal()))
            try:
                self._listener = stack.enter_context(closing(mark_socket.listener()))
            except OSError as error:
                raise KwatchError(
                    f"kwatch cannot listen for marks: {error.strerror}", "drop --mark"
                ) from error
            self._terminal = None if has_command else _terminal()
            if self._terminal is not None:
                stack.enter_context(closing(self._terminal))
            for source in (self._signal, self._listener, self._terminal):
                if source is not None:
                    self._poll.register(source, select.EPOLLIN)
            self._opened = stack.pop_all()

    @property
    def has_key(self) -> bool:
        """Whether the user can type marks."""
        return self._terminal is not None

    def fileno(self) -> int:
        """Readable when there may be a request."""
        return self._poll.fileno()

    def read(self) -> Iterator[Request]:
        """The requests that have arrived. Each is answered, and ended once."""
        self._look_again()
        for fd, events in self._poll.poll(0):
            if fd == self._signal.fileno():
                yield from [Request()] * self._signal.read()
            elif fd == self._listener.fileno():
                self._accept()
            elif fd in self._clients:
                yield from self._requested(self._clients.pop(fd), events)
            elif self._terminal is not None:
                yield from self._typed(self._terminal, events)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._opened.close()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        client.setblocking(False)
        if not mark_socket.is_trusted(mark_socket.peer(client)[1]):
            mark_socket.send(client, error="it takes marks only from its own user")
            client.close()
        elif len(self._clients) >= _MAX_CLIENTS:
            mark_socket.send(client, error="too many others set marks")
            client.close()
        else:
            self._clients[client.fileno()] = client
            self._poll.register(client, select.EPOLLIN)

    def _requested(self, client: socket.socket, events: int) -> Iterator[Request]:
        self._poll.unregister(client)
        pid = None if events & _GONE else mark_socket.requested(client)
        if pid is None:
            client.close()
        else:
            yield Request(pid, client)

    def _typed(self, terminal: TerminalLines, events: int) -> Iterator[Request]:
        try:
            yield from [Request()] * terminal.read().count(_KEY)
        except InBackground:
            self._poll.unregister(terminal)
            self._looks_at = time.monotonic() + _BACKGROUND_S
        else:
            if events & _GONE:
                self._poll.unregister(terminal)

    def _look_again(self) -> None:
        if self._terminal is not None and 0 < self._looks_at <= time.monotonic():
            self._looks_at = 0.0
            self._poll.register(self._terminal, select.EPOLLIN)


def _terminal() -> TerminalLines | None:
    try:
        return TerminalLines()
    except OSError:
        return None
