# SPDX-License-Identifier: Apache-2.0
"""The measured programs: built once per run, one process each, pinned to one CPU."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.lines import Lines
from harness.programs import SOURCES, Programs
from harness.target import Target, answers

_LOOP = Path(__file__).with_name("loop.c")
_FLAGS = ("-O1", "-g", "-fno-omit-frame-pointer", f"-I{SOURCES}")


@dataclass(frozen=True, slots=True)
class Work:
    """A loop's result: `count` operations (pairs, calls, blocks) in `ns` of wall time."""

    count: int
    ns: int

    @property
    def each_ns(self) -> float:
        return self.ns / self.count


class Loop:
    """A running loop.c. `prefix` is a command that runs it, such as valgrind."""

    def __init__(self, directory: Path, prefix: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*prefix, str(_built(directory))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self._lines = Lines(self._process.stdout)
        self._next = 0
        self._said("ready")
        pin(self.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, what: str, amount: int) -> Work:
        """Runs `pairs`, `getppid`, ... for `amount` milliseconds, or holds `amount` blocks."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what} {amount}\n")
        self._process.stdin.flush()
        said = self._said("done")
        return Work(said["count"], said["ns"])

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _said(self, last: str) -> dict[str, int]:
        found = self._lines.wait(lambda line: line == last, self._next)
        if found is None:
            raise RuntimeError(f"the loop ended with {self._process.wait(60)}")
        said = answers(self._lines[self._next : found])
        self._next = found + 1
        return said


@contextmanager
def loop(directory: Path, *prefix: str) -> Iterator[Loop]:
    running = Loop(directory, prefix)
    try:
        yield running
    finally:
        running.end()


@contextmanager
def test_program(directory: Path, name: str, *arguments: int) -> Iterator[Target]:
    """Runs a program of tests/programs; yields when it has printed `ready`."""
    target = Target([Programs(directory)(name), *map(str, arguments)])
    try:
        yield target
    finally:
        target.kill()


def pin(pid: int) -> None:
    """Pins the process to the last CPU; its tracer may use the others."""
    os.sched_setaffinity(pid, {max(os.sched_getaffinity(0))})


def _built(directory: Path) -> Path:
    binary = directory / "loop"
    if not binary.exists():
        subprocess.run(["gcc", *_FLAGS, "-o", str(binary), str(_LOOP)], check=True)
    return binary
