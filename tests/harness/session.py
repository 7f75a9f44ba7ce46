# SPDX-License-Identifier: Apache-2.0
"""Runs kwatch as a user does and reads its lines and JSON documents."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.lines import DEADLINE, Lines
from harness.target import answers

Document = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """Exit status and output of a kwatch that has ended."""

    status: int
    stdout: list[str]
    stderr: list[str]

    @property
    def documents(self) -> list[Document]:
        return documents(self.stdout)

    @property
    def answers(self) -> dict[str, int]:
        """The answers that a launched program printed on the same output."""
        return answers(self.stdout)

    def final(self, pid: int | None = None) -> Document:
        """The final report of a process; without a pid there must be only one report."""
        finals = [
            document
            for document in self.documents
            if document["kind"] == "final" and pid in (None, document["process"]["pid"])
        ]
        assert len(finals) == 1, f"{len(finals)} final reports of {pid or 'all'}: {self}"
        return finals[0]


def documents(lines: Iterable[str]) -> list[Document]:
    """Parses the JSON objects among other lines."""
    return [json.loads(line) for line in lines if line.startswith("{")]


class Session:
    """A kwatch in the background."""

    def __init__(
        self, *arguments: str | int | Path, script: str = "", tree: Path | None = None
    ) -> None:
        """`script`: Python code that runs kwatch, instead of `python -m kwatch`.

        `tree`: another checkout, whose kwatch runs.
        """
        how = ("-c", script) if script else ("-m", "kwatch")
        self._process = subprocess.Popen(
            [sys.executable, *how, *map(str, arguments)],
            cwd=tree,  # Python looks there first
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdout = Lines(self._process.stdout)
        self._stderr = Lines(self._process.stderr)

    @property
    def pid(self) -> int:
        return self._process.pid

    def attached(self) -> str:
        """Waits until every probe is in place and returns the line that says so."""
        return self.said(lambda line: line.startswith("attached"))

    def said(self, matches: Callable[[str], bool]) -> str:
        """Waits for a line on standard error and returns it."""
        index = self._stderr.wait(matches)
        if index is None:
            raise AssertionError(f"kwatch ended first: {self.finish()}")
        return self._stderr[index : index + 1][0]

    def printed(self, matches: Callable[[str], bool]) -> str:
        """Waits for a line on standard output, such as a command's own, and returns it."""
        index = self._stdout.wait(matches)
        if index is None:
            raise AssertionError(f"kwatch ended first: {self.finish()}")
        return self._stdout[index : index + 1][0]

    def document(self, matches: Callable[[Document], bool]) -> Document:
        """Waits for a JSON document on standard output and returns it."""
        index = self._stdout.wait(lambda line: line.startswith("{") and matches(json.loads(line)))
        if index is None:
            raise AssertionError(f"kwatch ended first: {self.finish()}")
        document: Document = json.loads(self._stdout[index : index + 1][0])
        return document

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGINT) -> Result:
        """Sends a signal and waits for the end."""
        self.send(number)
        return self.finish()

    def finish(self) -> Result:
        """Waits for the end."""
        status = self._process.wait(DEADLINE)
        return Result(status, self._stdout.all(), self._stderr.all())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(DEADLINE)
