# SPDX-License-Identifier: Apache-2.0
"""Compiles for a machine that has no compiler, such as an emulated guest.

The guest writes a request into a directory that it shares with the host and waits for the answer.
The host calls `serve` repeatedly.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.lines import DEADLINE

#: Names the shared directory, if there is one.
VARIABLE = "KWATCH_BUILDER"

Compile = Callable[[Sequence[str], Path, Path], None]


def ask(directory: Path, command: Sequence[str], source: Path, binary: Path) -> None:
    """Requests that `command` compiles `source`, and copies the result to `binary`."""
    request = json.dumps([list(command), source.name])
    name = hashlib.sha256(request.encode()).hexdigest()[:16]
    _write(directory / f"{name}.request", request)
    answer = directory / f"{name}.answer"
    deadline = time.monotonic() + DEADLINE
    while not answer.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody compiled {source.name}")
        time.sleep(0.05)
    if error := answer.read_text():
        raise RuntimeError(error)
    shutil.copy(directory / f"{name}.binary", binary)


def serve(directory: Path, sources: Path, compile_: Compile) -> None:
    """Answers all pending requests."""
    for path in directory.glob("*.request"):
        command, name = json.loads(path.read_text())
        path.unlink()
        source = sources / Path(name).name
        try:
            compile_(command, source, path.with_suffix(".binary"))
            error = ""
        except (OSError, subprocess.CalledProcessError) as failure:
            error = f"{failure}\n{getattr(failure, 'stderr', '')}"
        _write(path.with_suffix(".answer"), error)


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    unfinished.replace(path)
