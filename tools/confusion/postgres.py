# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL. A leaking session prepares statements and never drops them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from confusion.service import Running
from confusion.waiting import server, until

_PORT = "55432"  # only in the name of the socket
_QUERY = "SELECT sum(length(repeat('x', g))) FROM generate_series(1, 300) g;"


class _Session:
    """A client that psql serves; it answers each query with one line."""

    def __init__(self, directory: Path, postmaster: int, leaks: bool) -> None:
        self._leaks = leaks
        self._number = 0
        self._psql = subprocess.Popen(
            _psql(directory), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        backend = int(self._ask("SELECT pg_backend_pid();"))
        self.pids = (backend,) if leaks else (postmaster, backend)

    def load(self) -> None:
        for _ in range(20):
            self._number += 1
            if self._leaks:
                self._send(f"PREPARE p{self._number} AS SELECT {self._number}, $1::int;")
            self._ask(_QUERY)

    def held(self) -> int:
        return int(self._ask("SELECT sum(total_bytes) FROM pg_backend_memory_contexts;"))

    def close(self) -> None:
        self._psql.communicate()

    def _send(self, query: str) -> None:
        assert self._psql.stdin is not None
        self._psql.stdin.write(query + "\n")
        self._psql.stdin.flush()

    def _ask(self, query: str) -> str:
        assert self._psql.stdout is not None
        self._send(query)
        return self._psql.stdout.readline().strip()


def postgres(leaks: bool) -> Callable[[Path], AbstractContextManager[Running]]:
    @contextmanager
    def start(directory: Path) -> Iterator[Running]:
        programs = _programs()
        shutil.chown(directory, "postgres")
        as_postgres = ["runuser", "-u", "postgres", "--"]
        data = directory / "data"
        initdb = [*as_postgres, str(programs / "initdb"), "-D", str(data), "-A", "trust"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=directory)
        options = ["-D", str(data), "-k", str(directory), "-p", _PORT]
        command = [str(programs / "postgres"), *options, "-c", "listen_addresses="]
        with server(
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command],
            directory,
        ) as process:
            until(lambda: _answers(directory), "PostgreSQL answers")
            session = _Session(directory, process.pid, leaks)
            try:
                for _ in range(20):
                    session.load()
                yield session
            finally:
                session.close()

    return start


def _programs() -> Path:
    """Debian keeps them apart by version."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"))


def _psql(directory: Path) -> list[str]:
    return ["psql", "-qAtX", "-h", str(directory), "-p", _PORT, "-U", "postgres"]


def _answers(directory: Path) -> bool:
    command = [*_psql(directory), "-c", "SELECT 1"]
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
