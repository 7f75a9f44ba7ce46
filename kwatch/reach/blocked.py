# SPDX-License-Identifier: Apache-2.0
"""The registers of threads that are on no CPU, from their kernel stacks."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from kwatch.aggregate.order import U64
from kwatch.kernel.registers import registers
from kwatch.kernel.task_iterator import Member, member_offsets, read_tasks, thread_count
from kwatch.procfs.current_call import thread_ids

#: The kernel counts how often a thread leaves its CPU. The counts are read before and after the
#: registers: if they are equal, and the thread is on no CPU, it has not run meanwhile.
_SCHEDULING = {"on_cpu": 4, "nvcsw": 8, "nivcsw": 8}

Flags = npt.NDArray[np.bool_]


def read_blocked(pid: int) -> tuple[dict[int, U64], set[int]]:
    """The registers of such threads by number, and the numbers of the process's other threads.

    A thread that has ended is neither, nor is one of the kernel's own that serves the process: it
    never runs code of the program. Raises OSError or KwatchError.
    """
    layout, members = _record()
    records = np.frombuffer(read_tasks("registers", pid, members), layout)
    saved = records["saved"]
    values = saved[:, registers().places]
    is_ours = (records["mm"] != 0) & saved[:, registers().position].any(axis=1)
    off = _is_off(records)
    tids = records["pid"].tolist()
    blocked = {tids[row]: values[row] for row in np.flatnonzero(is_ours & off)}
    others = {tids[row] for row in np.flatnonzero(is_ours & ~off)}
    if len(tids) < thread_count(pid):
        others |= set(thread_ids(pid)) - set(tids)
    return blocked, others


def _is_off(records: npt.NDArray[np.void]) -> Flags:
    """Which threads were on no CPU from before their registers were read until after."""
    known = [name for name in _SCHEDULING if name in (records.dtype.names or ())]
    off = np.ones(len(records), np.bool_)
    for name in known:
        off &= records[name] == records[f"{name}_after"]
    # A kernel for one CPU does not have it: there, only kwatch is on the CPU.
    return off & (records["on_cpu"] == 0) if "on_cpu" in known else off


@cache
def _record() -> tuple[np.dtype[np.void], list[Member]]:
    """What is read of each thread. Raises KwatchError if the kernel has no BTF."""
    sizes = {"pid": 4, "mm": 8, **_SCHEDULING}
    words = len(registers().saved)
    before = [
        (name, f"<u{sizes[name]}", Member(offset, sizes[name]))
        for name, offset in member_offsets(*sizes).items()
    ]
    saved = ("saved", f"({words},)<u8", Member(0, words * 8, of_registers=True))
    after = [
        (f"{name}_after", kind, member) for name, kind, member in before if name in _SCHEDULING
    ]
    fields = [*before, saved, *after]
    return np.dtype([field[:2] for field in fields]), [field[2] for field in fields]
