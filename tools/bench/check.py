# SPDX-License-Identifier: Apache-2.0
"""The cost of one malloc and its free while they are checked, against the search for leaks.

It is the CPU time of the program, the least of several short slices: what else runs on the machine
matters less to it than to the time on the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.session import Session

from bench.peers import Peer, kwatch_peer
from bench.rows import Row, ratio
from bench.settings import Settings
from bench.workload import Loop, loop

_SLICES = 6
_SLICE_MS = 60
_WATCH, _CHECK, _BARE = "kwatch --no-syscalls", "kwatch check", "kwatch check --no-free-stacks"


def measure(settings: Settings, directory: Path) -> Iterable[Row]:
    peers = [kwatch_peer(_WATCH, "--no-syscalls"), _peer(_CHECK), _peer(_BARE, "--no-free-stacks")]
    found: dict[str, list[float]] = {peer.name: [] for peer in peers}
    with loop(directory) as target:
        for _ in range(settings.rounds):
            for peer in peers:
                with peer.attach(target.pid):
                    found[peer.name].append(_cost(target))
    for name, figures in found.items():
        yield Row("check", f"CPU time of a pair, {name}", min(figures), "ns")
    yield ratio("check", f"{_BARE} / {_WATCH}", found[_BARE], found[_WATCH], 1.1)
    yield ratio("check", f"{_CHECK} / {_WATCH}", found[_CHECK], found[_WATCH], 1.3)


def _cost(target: Loop) -> float:
    figures = []
    for _ in range(_SLICES):
        before = _cpu_ns(target.pid)
        work = target.run("pairs", _SLICE_MS)
        figures.append((_cpu_ns(target.pid) - before) / work.count)
    return min(figures)


def _cpu_ns(pid: int) -> int:
    """Of the first thread: the loop has one."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def _peer(name: str, *options: str) -> Peer:
    return Peer(name, lambda pid: _check(pid, *options))


@contextmanager
def _check(pid: int, *options: str) -> Iterator[None]:
    session = Session("check", "--json", "--pid", pid, *options)
    try:
        session.attached()
        yield
        session.stop()
    finally:
        session.kill()
