# SPDX-License-Identifier: Apache-2.0
"""Sinks: each writes snapshots in one format."""

from __future__ import annotations

from typing import Protocol

from kwatch.model.snapshot import EndedSummary, Snapshot


class Sink(Protocol):
    """The caller opens and closes the stream, and gets its errors (`OSError`)."""

    def write(self, snapshot: Snapshot) -> None:
        """Write and flush the whole snapshot."""

    def write_ended(self, summary: EndedSummary) -> None:
        """Write and flush what ended processes did."""

    def close(self) -> None:
        """Flush what is buffered. No write follows."""
