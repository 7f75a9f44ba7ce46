# SPDX-License-Identifier: Apache-2.0
"""The calls of a recording, of whose files it is known that they are as they were written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kwatch.model.traced_call import TracedCall
from kwatch.recording.manifest import NONSENSE, Recording, damaged
from kwatch.recording.reader import traced_calls

_TABLES = ("syscalls", "signals", "exits", "io_uring")


def verified_calls(recording: Recording) -> Iterator[TracedCall]:
    """In the order in which they were recorded. Raises KwatchError if a file is damaged."""
    for segment in recording.segments:
        segment.verify(_TABLES)
        try:
            yield from traced_calls(replace(recording, segments=(segment,)))
        except NONSENSE as error:  # others can write files with the right digests, too
            raise damaged(segment.name, f"it has what no recorder writes ({error!r})") from error
