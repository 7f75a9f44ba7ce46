# SPDX-License-Identifier: Apache-2.0
"""Lost control records: the state of processes may be stale until they are read again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

_REST = 10  # times as long as a reading takes, until the next one
_REREAD_S = 1.0  # after a loss: by then, all older records have arrived


class RecordGaps:
    """`lost_records` returns how many control records have been lost since the start.

    `reread` reads the state of all processes from /proc.
    """

    def __init__(self, lost_records: Callable[[], int], reread: Callable[[], None]) -> None:
        self._lost_records = lost_records
        self._reread = reread
        self._seen = 0
        self._reread_at = math.inf
        self._pause_s = _REREAD_S

    @property
    def are_open(self) -> bool:
        """Whether records may be missing in the current batch."""
        return self._reread_at < math.inf or self._lost_records() > self._seen

    def close(self) -> None:
        """Reads the processes again now, if records may be missing."""
        if self.are_open:
            self._seen, self._reread_at = self._lost_records(), math.inf
            self._reread()

    def close_due(self) -> None:
        """Reads the processes again some time after a loss."""
        lost, now = self._lost_records(), time.monotonic()
        if lost > self._seen:
            self._seen, self._reread_at = lost, min(self._reread_at, now + self._pause_s)
        if now >= self._reread_at:
            self._reread_at = math.inf
            self._reread()
            # With very many processes that takes long, and the rings fill up meanwhile.
            self._pause_s = max(_REREAD_S, _REST * (time.monotonic() - now))
