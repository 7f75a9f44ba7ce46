# SPDX-License-Identifier: Apache-2.0
"""System calls that the kernel has summed up, as a source of an account."""

from __future__ import annotations

import numpy as np

from kwatch.aggregate.histogram import RANGE
from kwatch.aggregate.order import Index
from kwatch.aggregate.syscalls import SyscallAccount
from kwatch.wire.events import Batch

#: What was added to a sum since it was last read. `call`: nr << 8 | abi. `range`: the part of the
#: histogram in `buckets`. `time_ns`: at the return of the first call of all.
CALL_SUM = np.dtype(
    [
        ("tgid", "u4"),
        ("call", "u4"),
        ("range", "i4"),
        ("time_ns", "u8"),
        ("calls", "u8"),
        ("errors", "u8"),
        ("total_ns", "u8"),
        ("max_ns", "u8"),
        ("buckets", "u8", RANGE),
    ]
)


class SummedCalls:
    """Adds batches of dtype CALL_SUM to an account."""

    def __init__(self, account: SyscallAccount) -> None:
        self._account = account

    def add(self, batch: Batch, slots: Index) -> None:
        self._account.add_sums(batch, slots)

    def drop(self, slot: int) -> None:
        """Does nothing: the account itself drops the slot."""
