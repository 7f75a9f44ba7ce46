# SPDX-License-Identifier: Apache-2.0
"""The cost of one malloc and its free while they are checked, against the search for leaks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.session import Session

from bench.compare import compare
from bench.peers import NATIVE, Peer, kwatch_peer
from bench.rows import Row
from bench.settings import Settings
from bench.workload import loop

WATCH, CHECK, BARE = "kwatch --no-syscalls", "kwatch check", "kwatch check --no-free-stacks"


def measure(settings: Settings, directory: Path) -> Iterable[Row]:
    peers = [NATIVE, kwatch_peer(WATCH, "--no-syscalls"), _peer(CHECK)]
    peers.append(_peer(BARE, "--no-free-stacks"))
    with loop(directory) as target:
        found = compare(target, "pairs", peers, "ns", settings)
    yield from found.rows()
    yield found.ratio(BARE, WATCH, 1.1)
    yield found.ratio(CHECK, WATCH, 1.3)


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
