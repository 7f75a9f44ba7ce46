# SPDX-License-Identifier: Apache-2.0
"""What `kwatch record` costs programs that people run: pbzip2, sqlite3, memcached.

CPU time is compared, which other work on the machine disturbs less than the time of a clock.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench import processes
from bench.peers import Peer
from bench.quiet import Quiet
from bench.record import compared, stopped
from bench.rows import Row
from bench.settings import Settings

_TEXT_BYTES = 48 << 20
_INSERTS, _AT_ONCE = 500_000, 1000  # rows, and those of a transaction
_CLIENTS = 4
_MEMORY_MB = 64


def measure(settings: Settings, directory: Path) -> Iterable[Row]:
    for bench, tools in (
        (_pbzip2, ("pbzip2",)),
        (_sqlite3, ("sqlite3",)),
        (_memcached, ("memcached", "memcslap")),
    ):
        missing = [name for name in tools if shutil.which(name) is None]
        if missing:
            yield Row("record", tools[0], note=f"{' and '.join(missing)} not installed")
        else:
            yield from bench(settings, directory)


def _pbzip2(settings: Settings, directory: Path) -> Iterable[Row]:
    text = directory / "text"
    numbers = random.Random(17)
    words = [f"{numbers.getrandbits(40):x}" for _ in range(5000)]
    with text.open("w") as file:
        while file.tell() < _TEXT_BYTES:
            file.write(" ".join(numbers.choices(words, k=1000)) + "\n")
    command = f"pbzip2 -p2 -kc {text} >/dev/null"
    yield from compared("pbzip2, s of CPU", settings, partial(_cpu_s, command=command))


def _sqlite3(settings: Settings, directory: Path) -> Iterable[Row]:
    statements, database = directory / "inserts.sql", directory / "database"
    with statements.open("w") as file:
        file.write("create table t (id integer primary key, name text, size integer);\n")
        for start in range(0, _INSERTS, _AT_ONCE):
            rows = range(start, start + _AT_ONCE)
            lines = "".join(f"insert into t values ({i}, 'name {i}', {i % 977});\n" for i in rows)
            file.write(f"begin;\n{lines}commit;\n")

    def visit(peer: Peer) -> float:
        database.unlink(missing_ok=True)
        return _cpu_s(peer, f"sqlite3 {database} <{statements}")

    yield from compared("sqlite3, 500,000 inserts, s of CPU", settings, visit)


def _memcached(settings: Settings, directory: Path) -> Iterable[Row]:
    with _server() as (server, port):
        visit = partial(_cpu_us, server=server, port=port, requests=settings.web_requests)
        yield from compared("memcached, us of CPU per request", settings, visit)


def _cpu_s(peer: Peer, command: str) -> float:
    """Seconds of CPU time of the command and its threads."""
    with stopped(command) as process:
        with peer.attach(process.pid):
            Quiet.wait()
            process.send_signal(signal.SIGCONT)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{command} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


@contextmanager
def _server() -> Iterator[tuple[int, int]]:
    """Its pid and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-l", "127.0.0.1", "-p", str(port), "-m", str(_MEMORY_MB), "-u", "nobody", "-U", "0"]
    process = subprocess.Popen(["memcached", *options])
    try:
        processes.until(lambda: _listens(port), "memcached listens")
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _cpu_us(peer: Peer, server: int, port: int, requests: int) -> float:
    """Microseconds of the server's CPU time for each get, and each set before all of them."""
    each = requests // _CLIENTS
    load = [f"--servers=127.0.0.1:{port}", f"--concurrency={_CLIENTS}", "--test=get"]
    command = ["memcslap", *load, f"--execute-number={each}", f"--initial-load={each}"]
    with peer.attach(server):
        Quiet.wait()
        before = processes.cpu_ns(server)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
        return (processes.cpu_ns(server) - before) / (each * (_CLIENTS + 1)) / 1000
