# SPDX-License-Identifier: Apache-2.0
"""What a process is, for reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """Identity is (pid, start_time); `start_time` is seconds since the epoch.

    `killed_by`: the signal that ended it, such as SIGKILL; empty if none did.
    """

    pid: int
    start_time: float
    comm: str
    exe: str
    exited: bool = False
    killed_by: str = ""

    @property
    def ended_itself(self) -> bool:
        """Whether it had done its work: a signal ends a process amid it."""
        return self.exited and not self.killed_by
