# SPDX-License-Identifier: Apache-2.0
"""The options of `kwatch record` that decide where the recording goes and how long it stays."""

from __future__ import annotations

from dataclasses import dataclass

from kwatch.syscalls.filter.expression import Expression


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """`filter`: applied to calls that the kernel has let pass. `max_size`: bytes."""

    directory: str
    filter: Expression | None = None
    duration_s: float | None = None
    segment_s: float = 60.0
    max_size: int | None = None
    max_age_s: float | None = None
