# SPDX-License-Identifier: Apache-2.0
"""The cost of following short-lived processes: kwatch attaches and reports each child."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from bench.peers import NATIVE, kwatch_peer
from bench.quiet import Quiet
from bench.rows import Row, ratio
from bench.settings import Settings

_CHILDREN = 100
_SCRIPT = f"""
echo ready
while read line; do
	i=0; while [ $i -lt {_CHILDREN} ]; do /bin/true; i=$((i+1)); done
	echo done
done
"""


def measure(settings: Settings, directory: Path) -> Iterable[Row]:
    peers = [
        NATIVE,
        kwatch_peer("kwatch --follow --no-heap", "--follow", "--no-heap"),
        kwatch_peer("kwatch --follow", "--follow"),
    ]
    figures: dict[str, list[float]] = {peer.name: [] for peer in peers}
    with subprocess.Popen(
        ["sh", "-c", _SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        for _ in range(settings.rounds):
            for peer in peers:
                with peer.attach(shell.pid):
                    Quiet.wait()
                    figures[peer.name].append(_children_ms(shell))
    for name, values in figures.items():
        yield Row("spawn", f"fork, exec and exit, {name}", median(values), "ms")
    for peer in peers[1:]:
        yield ratio("spawn", f"{peer.name} / native", figures[peer.name], figures[NATIVE.name])


def _children_ms(shell: subprocess.Popen[str]) -> float:
    assert shell.stdin is not None
    assert shell.stdout is not None
    started = time.monotonic()
    print("go", file=shell.stdin, flush=True)
    shell.stdout.readline()
    return (time.monotonic() - started) * 1000 / _CHILDREN
