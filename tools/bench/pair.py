# SPDX-License-Identifier: Apache-2.0
"""The cost of one malloc and its free."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from bench.compare import compare
from bench.peers import (
    BYSTANDER,
    EARLIER,
    EMPTY,
    NATIVE,
    STACKID,
    earlier_peers,
    kwatch_peer,
    memleak,
)
from bench.rows import Row, ratio
from bench.settings import Settings
from bench.workload import loop

HEAP, BOTH = "kwatch --no-syscalls", "kwatch"
BARE = "kwatch --no-syscalls --no-stacks"

#: The loop's command, its description, and the limit of its cost with stacks relative to without.
_STACKS = (
    ("pairs", "3 frames", None),
    ("pairs12", "12 frames", 1.2),
    ("pairs30", "30 frames", None),
    ("new30", "30 new", 4.0),
)


def measure(settings: Settings, directory: Path) -> Iterable[Row]:
    peers = [NATIVE, BYSTANDER, EMPTY, kwatch_peer(HEAP, "--no-syscalls"), kwatch_peer(BOTH)]
    peers.append(kwatch_peer(BARE, "--no-syscalls", "--no-stacks"))
    bare, heap = ["--no-syscalls", "--no-stacks"], ["--no-syscalls"]
    earlier = earlier_peers(settings.earlier, bare=bare, heap=heap, both=[])
    peers += earlier
    with loop(directory) as target:
        found = compare(target, "pairs", [*peers, memleak(directory)], "ns", settings)
    yield from found.rows()
    yield found.ratio(BARE, EMPTY.name, 1.2)
    yield found.ratio(HEAP, EMPTY.name, 1.35)
    yield found.ratio(BOTH, EMPTY.name, 1.35)
    if earlier:
        for ours, name in ((BARE, "bare"), (HEAP, "heap"), (BOTH, "both")):
            yield found.ratio(ours, EARLIER[name])
    yield found.ratio("bcc memleak", HEAP, 6, at_least=True)
    yield from _stacks(settings, directory)
    yield from _launched(settings, directory)


def _stacks(settings: Settings, directory: Path) -> Iterable[Row]:
    """Pairs at one depth: with stacks, without, and with the kernel's bpf_get_stackid()."""
    for what, meaning, limit in _STACKS:
        without, with_stacks = f"{meaning}, --no-stacks", f"{meaning}, with stacks"
        releases = f"{meaning}, also of frees"
        peers = [
            kwatch_peer(without, "--no-syscalls", "--no-stacks"),
            kwatch_peer(with_stacks, "--no-syscalls"),
            kwatch_peer(releases, "--no-syscalls", releases="always"),
        ]
        steady = what != "new30"
        with loop(directory) as target:
            found = compare(target, what, peers + [EMPTY, STACKID] * steady, "ns", settings)
        yield from found.rows()
        yield found.ratio(with_stacks, without, limit)
        yield found.ratio(releases, with_stacks)
        if steady:
            ours = found.difference(with_stacks, without)
            kernels = found.difference(STACKID.name, EMPTY.name)
            yield ratio("pair", f"{meaning}: the stack / bpf_get_stackid", ours, kernels, 1.0)


def _launched(settings: Settings, directory: Path) -> Iterable[Row]:
    """Tools that cannot attach to a running process, or only through a debugger."""
    tools = {
        "valgrind": ["valgrind", "-q"],
        "heaptrack": ["heaptrack", "-o", str(directory / "heaptrack")],
    }
    for name, prefix in tools.items():
        if shutil.which(name) is None:
            yield Row("pair", name, note=f"{name} is not installed")
            continue
        figures = []
        for _ in range(min(settings.rounds, 3)):
            with loop(directory, *prefix) as target:
                target.run("pairs", settings.slice_ms)
                figures.append(target.run("pairs", settings.slice_ms).each_ns)
        yield Row("pair", f"{name}, launched under it", median(figures), "ns")
