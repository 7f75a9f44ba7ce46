# SPDX-License-Identifier: Apache-2.0
"""Runs kwatch on a service under load, as a user would."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

from confusion.service import Running

_PAUSE_S = 0.02  # between two loads: kwatch and the service share the CPUs with others
_VERDICTS = ("leak", "growing", "unsure", "clean", "none")  # the worst first; none: no judgement


@dataclass(frozen=True, slots=True)
class Result:
    """What kwatch said of the worst of the service's processes; what the service held."""

    verdict: str
    reason: str
    held_before: int
    held_after: int
    seconds: float


def watch(service: Running, seconds: float, output: Path) -> Result:
    """Raises RuntimeError if kwatch fails or gives no verdict."""
    started = time.monotonic()
    with output.open("w") as reports:
        kwatch = subprocess.Popen(
            _command(service, seconds), stdout=reports, stderr=subprocess.PIPE, text=True
        )
    try:
        assert kwatch.stderr is not None
        said = _until_attached(kwatch.stderr)
        before = service.held()
        while kwatch.poll() is None:
            service.load()
            time.sleep(_PAUSE_S)
    finally:
        if kwatch.poll() is None:
            kwatch.terminate()
        kwatch.wait(60)
    verdict, reason = _worst(output, "\n".join(said))
    return Result(verdict, reason, before, service.held(), time.monotonic() - started)


def _command(service: Running, seconds: float) -> list[str]:
    pids = ",".join(map(str, service.pids))
    when = ["--interval", str(seconds / 3), "--duration", str(seconds)]
    return [sys.executable, "-m", "kwatch", "--pid", pids, "--follow", "--json", *when]


def _until_attached(stderr: IO[str]) -> list[str]:
    """The lines up to the one that says so; the rest is read aside, so that kwatch never waits."""
    said = []
    for line in stderr:
        said.append(line.rstrip())
        if line.startswith("attached"):
            Thread(target=lambda: said.extend(stderr), daemon=True).start()
            return said
    raise RuntimeError("kwatch did not attach: " + "\n".join(said))


def _worst(output: Path, said: str) -> tuple[str, str]:
    reports = [json.loads(line) for line in output.read_text().splitlines()]
    finals = [
        (each["verdict"] or "none", each["reason"]) for each in reports if each["kind"] == "final"
    ]
    if not finals:
        raise RuntimeError(f"kwatch gave no verdict: {said}")
    return min(finals, key=lambda final: _VERDICTS.index(final[0]))
