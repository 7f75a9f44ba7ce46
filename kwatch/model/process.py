# SPDX-License-Identifier: Apache-2.0
"""The facts about a process that reports show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """Identity is (pid, start_time); `start_time` is seconds since the epoch.

    `killed_by`: the signal that killed it, such as SIGKILL; empty if none did.
    """

    pid: int
    start_time: float
    comm: str
    exe: str
    exited: bool = False
    killed_by: str = ""

    @property
    def ended_itself(self) -> bool:
        """Whether it exited by itself: a process killed by a signal did not finish its work."""
        return self.exited and not self.killed_by
