# SPDX-License-Identifier: Apache-2.0
"""Data that BPF programs may still be reading is kept until a grace period has passed.

A program can be preempted for as long as its thread has no CPU. But it is an RCU reader: it runs
with preemption off or, for uprobes, under rcu_read_lock(), because none of kwatch's programs may
sleep. So after a grace period, all programs that ran at its beginning have ended.
"""

from __future__ import annotations

import os
import struct
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from kwatch.kernel import bpf

_KEY = struct.pack("I", 0)

T = TypeVar("T")


class GracePeriods:
    """Waits for grace periods in another thread.

    The kernel waits for one before it returns from a change to a map of maps, "so that userspace
    knows that all programs that could be running use the new map value" (Linux 5.0, commit
    1ae80cf31938). membarrier(2) waits too, but not with one CPU and not with nohz_full.
    """

    def __init__(self, unpreempted: bool = False) -> None:
        self._inner = bpf.create_array("kwatch_grace", 4, 1)
        self._outer = bpf.create_array_of_maps("kwatch_graces", 1, self._inner, unpreempted)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="kwatch-grace")

    def begin(self) -> Future[None]:
        """Returns a future that is done when every program that runs now has ended."""
        return self._worker.submit(self._outer.set, _KEY, struct.pack("I", self._inner.fd))

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)
        os.close(self._outer.fd)
        os.close(self._inner.fd)


class Retired(Generic[T]):
    """Holds retired things until no program can be reading them."""

    def __init__(self, periods: GracePeriods) -> None:
        self._periods = periods
        self._new: list[T] = []
        self._waiting: list[T] = []
        self._period: Future[None] | None = None

    def add(self, thing: T) -> None:
        """Adds a thing that no program that starts from now on can find."""
        self._new.append(thing)

    def released(self) -> list[T]:
        """Returns, once, the things that no program can be reading any more. Raises OSError."""
        released: list[T] = []
        if self._period is not None and self._period.done():
            self._period.result()
            released, self._waiting, self._period = self._waiting, [], None
        if self._new and self._period is None:
            self._waiting, self._new = self._new, []
            self._period = self._periods.begin()
        return released
