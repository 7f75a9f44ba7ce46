# SPDX-License-Identifier: Apache-2.0
"""How long a run measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """`rounds`: each round visits every peer once; `slice_ms`: the length of one visit.

    `earlier`: a checkout of an earlier kwatch, which is measured too.
    """

    rounds: int = 9
    slice_ms: int = 500
    burst_ms: int = 5000
    rate_seconds: int = 10
    flood_calls: int = 5_000_017  # per thread
    web_pairs: int = 9
    web_requests: int = 40_000
    live_blocks: int = 1_000_000
    earlier: Path | None = None


FULL = Settings()
QUICK = Settings(
    rounds=3,
    slice_ms=200,
    burst_ms=2000,
    rate_seconds=3,
    flood_calls=1_000_003,
    web_pairs=3,
    web_requests=15_000,
)
