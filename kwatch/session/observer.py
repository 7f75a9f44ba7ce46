# SPDX-License-Identifier: Apache-2.0
"""What a command may add to a session: it sees every event and every stack."""

from __future__ import annotations

from typing import Protocol

from kwatch.processes.process import Process
from kwatch.symbols.stack import Stack
from kwatch.wire.events import Batch


class Observer(Protocol):
    """Called on the thread that reads the rings, which fill up meanwhile."""

    def on_batch(self, source: str, batch: Batch) -> None:
        """Events of a source (kwatch.programs.sources), which must be copied to be kept.

        Those of an ordered source come in order of time, after the control records from before
        them. They may be of processes that the session does not know.
        """

    def on_stack(self, process: Process, identity: int, stack: Stack) -> None:
        """A stack has been read; events name it by its identity. Its frames have no names yet."""
