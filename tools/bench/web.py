# SPDX-License-Identifier: Apache-2.0
"""nginx under ab, alternately with and without kwatch."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from bench import processes
from bench.peers import NATIVE, Peer, kwatch, kwatch_peer
from bench.quiet import Quiet
from bench.rows import Row, ratio
from bench.settings import Settings

_CONFIG = Path(__file__).with_name("nginx.conf")
_CONNECTIONS = 8
_PAGE = "kwatch\n" * 100


@dataclass(frozen=True, slots=True)
class Server:
    worker: int
    url: str


def measure(settings: Settings, directory: Path) -> Iterable[Row]:
    missing = [name for name in ("nginx", "ab") if shutil.which(name) is None]
    if missing:
        yield Row("nginx", "requests/s", note=f"{' and '.join(missing)} not installed")
        return
    peers = [NATIVE, kwatch_peer("kwatch --no-heap", "--no-heap"), kwatch_peer("kwatch")]
    figures: dict[str, list[float]] = {peer.name: [] for peer in peers}
    with nginx(directory / "nginx") as server:
        _requests_per_second(server, settings.web_requests)
        for turn in range(settings.web_pairs):
            for peer in peers if turn % 2 == 0 else reversed(peers):
                figures[peer.name].append(_under(peer, server, settings.web_requests))
        attaching = [_seconds_to_attach(server) for _ in range(settings.rounds)]
    for name, values in figures.items():
        yield Row("nginx", name, median(values), "requests/s")
    for peer in peers[1:]:
        yield ratio("nginx", f"{peer.name} / native", figures[peer.name], figures[NATIVE.name])
    yield Row("nginx", "from start to attached", median(attaching), "s", 1.0)


def _under(peer: Peer, server: Server, requests: int) -> float:
    with peer.attach(server.worker):
        Quiet.wait()
        return _requests_per_second(server, requests)


def _seconds_to_attach(server: Server) -> float:
    Quiet.wait()
    started = time.monotonic()
    with kwatch("--pid", server.worker):
        return time.monotonic() - started


@contextmanager
def nginx(directory: Path) -> Iterator[Server]:
    """Runs a server with one worker on a free loopback port."""
    (directory / "www").mkdir(parents=True)
    (directory / "www/index.html").write_text(_PAGE)
    directory.parent.chmod(0o755)  # the worker runs as another user
    port = _free_port()
    config = directory / "nginx.conf"
    config.write_text(_CONFIG.read_text().format(port=port, directory=directory))
    command = ["nginx", "-c", str(config), "-e", str(directory / "error.log")]
    process = subprocess.Popen(command)
    try:
        processes.until(lambda: _listens(port), "nginx listens")
        (worker,) = psutil.Process(process.pid).children()
        yield Server(worker.pid, f"http://127.0.0.1:{port}/")
    finally:
        process.terminate()
        process.wait(30)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _requests_per_second(server: Server, requests: int) -> float:
    return run_ab(server, requests, _CONNECTIONS, ["-k"])


def run_ab(server: Server, requests: int, connections: int, options: Iterable[str]) -> float:
    """Requests per second."""
    command = ["ab", "-q", *options, "-c", str(connections), "-n", str(requests), server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    failed = re.search(r"Failed requests:\s+(\d+)", done.stdout)
    speed = re.search(r"Requests per second:\s+([\d.]+)", done.stdout)
    if failed is None or speed is None or int(failed[1]):
        raise RuntimeError(f"ab failed:\n{done.stdout}")
    return float(speed[1])
