# SPDX-License-Identifier: Apache-2.0
"""What the kernel says that a process uses at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """`anonymous`: bytes of private anonymous memory, resident or swapped out. `shared`: bytes of
    resident shared memory. `descriptors`: open file descriptors; None if they cannot be counted.
    """

    anonymous: int
    shared: int = 0
    descriptors: int | None = None
