# SPDX-License-Identifier: Apache-2.0
"""The cost of one system call: getppid, which does nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench.compare import compare
from bench.peers import (
    BYSTANDER,
    EARLIER,
    NATIVE,
    PERF_TRACE,
    STRACE,
    STRACE_BESIDE,
    SYSCOUNT,
    TRACEPOINTS,
    earlier_peers,
    kwatch_peer,
)
from bench.rows import Row, ratio
from bench.settings import Settings
from bench.workload import loop

CALLS, BOTH, STACKS = "kwatch --no-heap", "kwatch", "kwatch --no-heap --stacks"


def measure(settings: Settings, directory: Path) -> Iterable[Row]:
    ours = [BYSTANDER, kwatch_peer(CALLS, "--no-heap"), kwatch_peer(BOTH)]
    ours.append(kwatch_peer(STACKS, "--no-heap", "--stacks"))
    earlier = earlier_peers(settings.earlier, calls=["--no-heap"])
    tools = [TRACEPOINTS, SYSCOUNT, STRACE, STRACE_BESIDE, PERF_TRACE]
    peers = [NATIVE, *ours, *earlier, *tools]
    with loop(directory) as target:
        found = compare(target, "getppid", peers, "ns", settings)
    yield from found.rows()
    yield found.ratio(CALLS, NATIVE.name, 2.5)
    yield found.ratio(BOTH, NATIVE.name, 2.5)
    yield found.ratio(CALLS, TRACEPOINTS.name, 1.15)
    added = [found.difference(each, NATIVE.name) for each in found.others(CALLS, SYSCOUNT.name)]
    if len(added) == 2:
        yield ratio("syscall", f"{CALLS} / {SYSCOUNT.name}, what each adds", *added, 0.55)
    if earlier:
        yield found.ratio(CALLS, EARLIER["calls"])
    yield found.ratio(STACKS, CALLS)
    yield found.ratio(BYSTANDER.name, NATIVE.name, 1.75)
    yield found.ratio(STRACE.name, CALLS, 30, at_least=True)
    yield found.ratio(STRACE_BESIDE.name, CALLS)
    yield found.ratio(PERF_TRACE.name, CALLS)
