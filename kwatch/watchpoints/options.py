# SPDX-License-Identifier: Apache-2.0
"""What the user wants to watch, checked."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kwatch.kernel.breakpoints import Access
from kwatch.watchpoints.site import Site


class OnHit(enum.StrEnum):
    """What happens at a hit. DUMP: the memory around is shown; STOP: the process is stopped."""

    STACK = "stack"
    COUNT = "count"
    DUMP = "dump"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """`of_blocks`: the site allocates the memory that is watched; else it is that memory.

    `max_hits`: the run ends after so many; None for no limit.
    """

    site: Site
    of_blocks: bool = False
    access: Access = Access.WRITE
    on_hit: frozenset[OnHit] = frozenset({OnHit.STACK})
    max_hits: int | None = None
