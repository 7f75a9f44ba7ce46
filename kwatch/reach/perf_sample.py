# SPDX-License-Identifier: Apache-2.0
"""The registers of threads that run, sampled by perf: no thread is stopped."""

from __future__ import annotations

import mmap
import os
import select
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kwatch.aggregate.order import U64
from kwatch.kernel import perf
from kwatch.kernel.registers import RegisterSet

#: CPU time of the thread until the sample. It is taken when a timer fires in it.
_PERIOD_NS = 100_000

#: struct perf_event_mmap_page: where `data_head` is. The records begin one page later.
_HEAD = 1024
_PAGES = 2
_RECORD_SAMPLE = 9
#: struct perf_event_header, and the ABI of the registers, which is 0 if there are none.
_BEGIN = struct.Struct("<IHHQ")


@dataclass(slots=True)
class _Sample:
    """One thread's event, with the ring for its record."""

    event: int
    ring: mmap.mmap

    def registers(self, wanted: RegisterSet) -> U64 | None:
        """The values of `wanted.names`; None if there is no sample."""
        (head,) = struct.unpack_from("<Q", self.ring, _HEAD)
        at = mmap.PAGESIZE
        kind, _, _, abi = _BEGIN.unpack_from(self.ring, at)
        if not head or kind != _RECORD_SAMPLE or not abi:
            return None
        count = len(wanted.names)
        words = np.frombuffer(self.ring[at + _BEGIN.size : at + _BEGIN.size + count * 8], np.uint64)
        return words[wanted.sample_order]

    def close(self) -> None:
        self.ring.close()
        os.close(self.event)


def sample_registers(tids: Iterable[int], wanted: RegisterSet, seconds: float) -> dict[int, U64]:
    """The values of `wanted.names` of each thread that runs within this time."""
    samples: dict[int, _Sample] = {}
    try:
        for tid in tids:
            if sample := _begin(tid, wanted):
                samples[tid] = sample
        _wait(samples.values(), seconds)
        found = {tid: sample.registers(wanted) for tid, sample in samples.items()}
    finally:
        for sample in samples.values():
            sample.close()
    return {tid: values for tid, values in found.items() if values is not None}


def _begin(tid: int, wanted: RegisterSet) -> _Sample | None:
    """None if the thread has ended, or perf is refused."""
    try:
        event = perf.open_register_sample(tid, wanted.sample_mask, _PERIOD_NS)
    except OSError:
        return None
    try:
        return _Sample(event, mmap.mmap(event, _PAGES * mmap.PAGESIZE))
    except OSError:  # too much locked memory
        os.close(event)
        return None


def _wait(samples: Iterable[_Sample], seconds: float) -> None:
    """Waits until all have their sample, or the time has passed."""
    poll = select.poll()
    waiting = {sample.event for sample in samples}
    for event in waiting:
        poll.register(event, select.POLLIN)
    deadline = time.monotonic() + seconds
    while waiting and (left := deadline - time.monotonic()) > 0:
        for event, _ in poll.poll(max(left * 1000, 1)):
            waiting.discard(event)
            poll.unregister(event)
