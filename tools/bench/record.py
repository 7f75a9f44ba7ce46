# SPDX-License-Identifier: Apache-2.0
"""What `kwatch record` costs: nginx's CPU time for each request, and the speed of dd."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from harness.session import Session

from bench import processes
from bench.peers import NATIVE, Peer, kwatch_peer
from bench.quiet import Quiet
from bench.rows import Row, ratio
from bench.settings import Settings
from bench.web import Server, nginx, run_ab

_CONNECTIONS = 1000  # many, as in Syscord's measurements
_FILE_BYTES = 1 << 30
_SMALL_BYTES = 1 << 20  # for reads of one byte

Figures = dict[str, list[float]]


@contextmanager
def _recording(*options: str | int) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="kwatch-bench-") as directory:
        session = Session("record", f"{directory}/calls", *options)
        try:
            session.attached()
            yield
            session.stop()
        finally:
            session.kill()


@contextmanager
def _elsewhere(pid: int) -> Iterator[None]:
    other = subprocess.Popen(["sleep", "infinity"])
    try:
        with _recording("--pid", other.pid):
            yield
    finally:
        other.kill()
        other.wait(60)


PEERS = [
    NATIVE,
    Peer("recording another process", _elsewhere),
    kwatch_peer("kwatch --no-heap", "--no-heap"),
    Peer("kwatch record", lambda pid: _recording("--pid", pid)),
    Peer("kwatch record --content 256", lambda pid: _recording("--pid", pid, "--content", "256")),
]


def measure_web(settings: Settings, directory: Path) -> Iterable[Row]:
    missing = [name for name in ("nginx", "ab") if shutil.which(name) is None]
    if missing:
        yield Row("record", "nginx", note=f"{' and '.join(missing)} not installed")
        return
    with nginx(directory / "nginx") as server:
        visit = partial(_cpu_us, server=server, settings=settings)
        yield from compared("nginx, us of CPU per request", settings, partial(visit, options=()))
        keep_alive = partial(visit, options=["-k"])
        yield from compared("nginx keep-alive, us of CPU per request", settings, keep_alive)


def _cpu_us(peer: Peer, server: Server, settings: Settings, options: Iterable[str]) -> float:
    """Microseconds of the worker's CPU time for each request."""
    with peer.attach(server.worker):
        Quiet.wait()
        before = processes.cpu_ns(server.worker)
        run_ab(server, settings.web_requests, _CONNECTIONS, options)
        return (processes.cpu_ns(server.worker) - before) / settings.web_requests / 1000


def measure_files(settings: Settings, directory: Path) -> Iterable[Row]:
    """dd from the page cache; the recorder launches it."""
    file = directory / "file"
    with file.open("wb") as stream:
        for _ in range(_FILE_BYTES >> 20):
            stream.write(bytes(1 << 20))
    sizes = {"128K": _FILE_BYTES, "64K": _FILE_BYTES, "4K": _FILE_BYTES >> 3, "1": _SMALL_BYTES}
    for block, size in sizes.items():
        visit = partial(_dd_s, file=file, block=block, size=size)
        yield from compared(f"dd bs={block}, s", settings, visit)


def _dd_s(peer: Peer, file: Path, block: str, size: int) -> float:
    """The seconds that dd itself measures, once it is attached to."""
    command = f"dd if={file} of=/dev/null bs={block} count={size} iflag=count_bytes"
    with stopped(command) as process, peer.attach(process.pid):
        Quiet.wait()
        process.send_signal(signal.SIGCONT)
        _, text = process.communicate(timeout=120)
    found = re.search(r"copied, ([\d.e-]+) s", text)
    if found is None:
        raise RuntimeError(f"dd failed:\n{text}")
    return float(found[1])


@contextmanager
def stopped(command: str) -> Iterator[subprocess.Popen[str]]:
    """A shell that stops, and becomes the command once it goes on."""
    script = f"kill -STOP $$; exec {command}"
    with subprocess.Popen(["sh", "-c", script], stderr=subprocess.PIPE, text=True) as process:
        processes.until(lambda: processes.state(process.pid) == "T", "sh stops")
        yield process


def compared(what: str, settings: Settings, visit: Callable[[Peer], float]) -> Iterable[Row]:
    """The ratio of each of the PEERS to native, of figures that `visit` measures in turn."""
    figures: Figures = {peer.name: [] for peer in PEERS}
    visit(NATIVE)
    for turn in range(settings.web_pairs):
        for peer in PEERS if turn % 2 == 0 else reversed(PEERS):
            figures[peer.name].append(visit(peer))
    yield Row("record", f"{what}, native", median(figures[NATIVE.name]))
    for peer in PEERS[1:]:
        yield ratio(
            "record", f"{what}, {peer.name} / native", figures[peer.name], figures["native"]
        )
