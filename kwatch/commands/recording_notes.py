# SPDX-License-Identifier: Apache-2.0
"""What the readers of a recording say of what it lacks."""

from __future__ import annotations

from collections.abc import Iterator

from kwatch.model.losses import LOSS_CAUSES
from kwatch.recording.manifest import Recording
from kwatch.units import counted, printable


def notes(recording: Recording) -> Iterator[str]:
    """Lines for standard error."""
    if recording.unfinished:
        files = counted(len(recording.unfinished), "file was", "files were")
        yield (
            f"kwatch: {recording.path}: {files} not finished; the calls in the last segment of a "
            f"recorder that was killed are lost"
        )
    if lost := recording.lost:
        causes = dict.fromkeys((*LOSS_CAUSES, *lost))  # a later kwatch may know more
        listed = ", ".join(f"{lost[name]:,} {name}" for name in causes if lost.get(name))
        yield f"kwatch: the recording is not complete: {printable(listed)}"
