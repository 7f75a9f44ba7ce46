# SPDX-License-Identifier: Apache-2.0
"""Lost control records: until the processes have been read again, their state may be outdated."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

_REREAD_S = 1.0  # after a loss, until no older records are on their way


class RecordGaps:
    """`lost_records` counts the control records that are known to be lost since the start.

    `reread` reads all processes again from /proc.
    """

    def __init__(self, lost_records: Callable[[], int], reread: Callable[[], None]) -> None:
        self._lost_records = lost_records
        self._reread = reread
        self._seen = 0
        self._reread_at = math.inf

    @property
    def are_open(self) -> bool:
        """Whether records may be missing among those that are being applied."""
        return self._reread_at < math.inf or self._lost_records() > self._seen

    def close_due(self) -> None:
        """Reads the processes again if a loss is long enough ago."""
        lost, now = self._lost_records(), time.monotonic()
        if lost > self._seen:
            self._seen, self._reread_at = lost, min(self._reread_at, now + _REREAD_S)
        if now >= self._reread_at:
            self._reread_at = math.inf
            self._reread()
