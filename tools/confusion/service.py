# SPDX-License-Identifier: Apache-2.0
"""A service with a known truth, and the same service while it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Running(Protocol):
    """A service that runs and has warmed up."""

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that a user would name to kwatch."""

    def load(self) -> None:
        """Sends some requests and waits for the answers: a fraction of a second."""

    def held(self) -> int:
        """What the service holds now, by its own count."""


@dataclass(frozen=True, slots=True)
class Service:
    """`start` gets a directory for the service's files. `unit`: of what it holds.

    `fault`: a regular expression of the place that a reader must be led to, if it leaks.
    """

    name: str
    leaks: bool
    start: Callable[[Path], AbstractContextManager[Running]]
    fault: str = ""
    unit: str = "bytes"
