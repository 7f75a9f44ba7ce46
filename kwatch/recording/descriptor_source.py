# SPDX-License-Identifier: Apache-2.0
"""What a recording says of descriptors beside its calls."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from kwatch.descriptors.descriptors import Open
from kwatch.descriptors.source import NoSource
from kwatch.recording.escapes import unescaped
from kwatch.recording.manifest import Recording, damaged


class RecordedSource(NoSource):
    """Knows which process forked which. Raises KwatchError if a file is damaged."""

    def __init__(self, recording: Recording) -> None:
        rows = _rows(recording, "processes", ["pid", "parent"])
        self._parents = {row["pid"]: row["parent"] for row in rows}

    def parent(self, pid: int) -> int | None:
        return self._parents.get(pid)


def open_before(recording: Recording) -> dict[int, dict[int, Open]]:
    """What processes had open when the first segment that has them began, by pid and descriptor.

    Raises KwatchError if a file is damaged.
    """
    found: dict[int, dict[int, Open]] = {}
    for segment in recording.segments:
        in_segment: dict[int, dict[int, Open]] = {}
        alone = Recording(recording.path, (segment,), ())
        for row in _rows(alone, "descriptors", ["pid", "fd", "target", "survives_exec"]):
            text = os.fsdecode(unescaped(row["target"]))
            in_segment.setdefault(row["pid"], {})[row["fd"]] = Open(text, row["survives_exec"])
        for pid, each in in_segment.items():
            found.setdefault(pid, each)
    return found


def _rows(recording: Recording, table: str, columns: list[str]) -> Iterator[dict[str, Any]]:
    for path in recording.files(table):
        try:
            yield from pq.read_table(path, columns=columns).to_pylist()
        except (OSError, ValueError) as error:
            raise damaged(path, str(error)) from error
