# SPDX-License-Identifier: Apache-2.0
"""Where snapshots go: a sink turns each into one form of output."""

from __future__ import annotations

from typing import Protocol

from kwatch.model.snapshot import Snapshot


class Sink(Protocol):
    """Errors of the stream (`OSError`) reach the caller, who also opened it and closes it."""

    def write(self, snapshot: Snapshot) -> None:
        """Put the whole snapshot out, down to the last line."""

    def close(self) -> None:
        """Put out whatever is held back; nothing is written after it."""
