# SPDX-License-Identifier: Apache-2.0
"""An observer, which a command may add to a session, sees every event and every stack."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from kwatch.processes.process import Process
from kwatch.procfs.mappings import Mapping
from kwatch.symbols.stack import Stack
from kwatch.wire.events import Batch


class Observer(Protocol):
    """Called on the thread that reads the rings: a slow observer lets the rings fill up."""

    def on_batch(self, source: str, batch: Batch) -> None:
        """Takes events of a source (kwatch.programs.sources). Copy what you keep.

        The events of an ordered source arrive in order of time, after all earlier control records.
        They may belong to processes that the session does not know.
        """

    def on_stack(self, process: Process, identity: int, stack: Stack) -> None:
        """Takes a stack; events refer to it by its identity. Its frames have no names yet."""


@runtime_checkable
class CodeObserver(Observer, Protocol):
    """An observer that also sees what code is mapped, if TraceOptions.code is set.

    What was mapped before the attach, and what is unmapped, it does not see.
    """

    def on_code(self, process: Process, mapping: Mapping, time_ns: int, is_first: bool) -> None:
        """Takes a mapping. `is_first`: an exec has replaced what was mapped before."""

    def on_fork(self, child: Process, time_ns: int) -> None:
        """Takes a process that has the mappings of its parent."""
