# SPDX-License-Identifier: Apache-2.0
"""Takes a program with known answers from stage to stage (see tests/programs/answers.h)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.lines import DEADLINE, Lines


def answers(lines: Iterable[str]) -> dict[str, int]:
    """Parses the `key value` lines among others."""
    words = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and _is_number(pair[1])}


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


class Target:
    """A running program that has printed `ready` and waits."""

    def __init__(
        self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        assert self._process.stdout is not None
        self._lines = Lines(self._process.stdout)
        self._next = 0
        self.printed: list[str] = []  # all lines since the stage before
        self.answers = self._await("ready")  # what it printed before it was ready

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """A zombie has ended."""
        return self._process.poll() is None

    def release(self) -> None:
        """Lets the program go on to its next stage without waiting for it."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def go(self, stage: str = "done") -> dict[str, int]:
        """Lets the program go on to `stage`; returns the answers that it printed."""
        self.release()
        return self._await(stage)

    def reached(self, stage: str = "done") -> dict[str, int]:
        """After release(): waits for `stage`; returns the answers that it printed."""
        return self._await(stage)

    def end(self) -> int:
        """Lets the program go on to its end; returns its exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(DEADLINE)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(DEADLINE)
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _await(self, stage: str) -> dict[str, int]:
        found = self._lines.wait(lambda line: line == stage, self._next)
        if found is None:
            status = self._process.wait(DEADLINE)
            raise RuntimeError(f"the program ended with {status} before it said {stage!r}")
        self.printed = self._lines[self._next : found]
        self._next = found + 1
        return answers(self.printed)
