# SPDX-License-Identifier: Apache-2.0
"""redis and memcached. Healthy, they write the same keys again; leaking, always new ones."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from confusion.service import Running
from confusion.waiting import free_port, is_listening, server, until

_KEYS = 50  # in one load
_ROUNDS = 20  # of keys until they repeat
_VALUE = "x" * 5000


class _Store:
    """`grows`: each key is new."""

    def __init__(self, pid: int, port: int, grows: bool) -> None:
        self.pids = (pid,)
        self._grows = grows
        self._loads = 0
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._lines = self._socket.makefile("r", newline="\r\n")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def load(self) -> None:
        first = self._loads * _KEYS
        self._loads += 1
        for number in range(first, first + _KEYS):
            self._write(f"key:{number if self._grows else number % (_KEYS * _ROUNDS)}")

    def _ask(self, text: str) -> str:
        self._socket.sendall(text.encode())
        return self._lines.readline().strip()

    def _write(self, key: str) -> None:
        raise NotImplementedError

    def held(self) -> int:
        raise NotImplementedError


class _Redis(_Store):
    def _write(self, key: str) -> None:
        self._ask(f"SET {key} {_VALUE}\r\n")
        if not self._grows:
            self._ask(f"DEL {key}\r\n")

    def held(self) -> int:
        size = int(self._ask("INFO memory\r\n")[1:])
        fields = dict(
            line.split(":", 1) for line in self._lines.read(size + 2).split() if ":" in line
        )
        return int(fields["used_memory"])


class _Memcached(_Store):
    def _write(self, key: str) -> None:
        self._ask(f"set {key} 0 0 {len(_VALUE)}\r\n{_VALUE}\r\n")

    def held(self) -> int:
        fields = {}
        line = self._ask("stats\r\n")
        while line != "END":
            _, name, value = line.split(" ", 2)
            fields[name] = value
            line = self._lines.readline().strip()
        return int(fields["bytes"])


Start = Callable[[Path], AbstractContextManager[Running]]


def redis(grows: bool) -> Start:
    options = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port"]
    return _start(["redis-server", *options], _Redis, grows)


def memcached(grows: bool) -> Start:
    options = ["-u", "nobody", "-m", "1024", "-l", "127.0.0.1", "-p"]
    return _start(["memcached", *options], _Memcached, grows)


def _start(command: list[str], kind: type[_Store], grows: bool) -> Start:
    @contextmanager
    def start(directory: Path) -> Iterator[Running]:
        port = free_port()
        with server([*command, str(port)], directory) as process:
            until(lambda: is_listening(port), f"{command[0]} listens")
            store = kind(process.pid, port, grows)
            try:
                for _ in range(_ROUNDS):
                    store.load()
                yield store
            finally:
                store.close()

    return start
