# SPDX-License-Identifier: Apache-2.0
"""The call stacks of a recording, as text."""

from __future__ import annotations

import pyarrow.parquet as pq

from kwatch.model.frame import Ending
from kwatch.model.traced_call import TracedCall
from kwatch.recording.manifest import Recording, damaged
from kwatch.sinks.frame_text import stack_texts
from kwatch.wire.events import STACK_IDS

_SIGN = 1 << 63


class RecordedStacks:
    """Reads all stacks at once; each segment has those of its calls. Raises KwatchError."""

    def __init__(self, recording: Recording) -> None:
        self._texts: dict[tuple[int, int], list[str]] = {}
        for path in recording.files("stacks"):
            try:
                rows = pq.read_table(path, columns=["pid", "stack", "ending", "frames"]).to_pylist()
            except (OSError, ValueError) as error:
                raise damaged(path, str(error)) from error
            for row in rows:
                identity = row["stack"] % (2 * _SIGN)
                self._texts[row["pid"], identity] = stack_texts(row["frames"], row["ending"])

    def frames(self, call: TracedCall) -> list[str]:
        """From the innermost on; the last one may say what is missing."""
        without = Ending.OFF if call.stack < STACK_IDS else Ending.LOST
        return self._texts.get((call.pid, call.stack)) or stack_texts([], without)
