# SPDX-License-Identifier: Apache-2.0
"""The registers of all threads of a process, which it goes on using meanwhile.

A thread that is not on a CPU has its registers on its kernel stack, from where a BPF iterator reads
them. A thread that runs is sampled. Nothing is stopped, and no call is interrupted.
"""

from __future__ import annotations

import numpy as np

from kwatch.errors import KwatchError
from kwatch.kernel.registers import registers
from kwatch.procfs.current_call import blocked_stack_pointer, has_ended, thread_ids
from kwatch.reach.blocked import read_blocked
from kwatch.reach.perf_sample import sample_registers
from kwatch.reach.thread_state import ThreadState, state_of

#: Seconds to wait for samples, each time that some threads seem to run. One that has been running,
#: but not since then, is usually blocked now. Where CPUs are scarce, a sample comes later.
_WAITS = (0.005, 0.005, 0.02, 0.05, 0.1)


def read_threads(pid: int) -> list[ThreadState]:
    """All threads of a process, by number; none if it has ended.

    A thread that has ended has no state, nor has one of the kernel's own that serves the process.
    """
    found: dict[int, ThreadState] = {}
    waiting: set[int] = set()
    for seconds in _WAITS:
        try:
            blocked, others = read_blocked(pid)
        except (OSError, KwatchError):  # BPF or the kernel's types cannot be used
            waiting = set(thread_ids(pid)) - found.keys()
            break
        for tid in blocked.keys() - found.keys():
            found[tid] = state_of(tid, blocked[tid])
        waiting = others - found.keys()
        sampled = sample_registers(waiting, registers(), seconds)
        found.update((tid, state_of(tid, values)) for tid, values in sampled.items())
        waiting -= sampled.keys()
        if not waiting:
            break
    found.update((tid, _unknown(pid, tid)) for tid in waiting if not has_ended(pid, tid))
    return [found[tid] for tid in sorted(found)]


def _unknown(pid: int, tid: int) -> ThreadState:
    nothing = np.empty(0, np.uint64)
    return ThreadState(tid, nothing, blocked_stack_pointer(pid, tid), (), has_registers=False)
