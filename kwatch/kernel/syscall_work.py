# SPDX-License-Identifier: Apache-2.0
"""Threads whose system calls the kernel hands to the program or its tracer, instead of making them.

On x86-64, return probes make a system call of their own since Linux 6.11 (commit ff474a78cef5):
such a thread would not get past it. Both kinds show in `thread_info.syscall_work` alone
(include/linux/thread_info.h), which a BPF program reads, because /proc does not show it.
"""

from __future__ import annotations

import struct

from kwatch.kernel.btf import runtime_types
from kwatch.kernel.task_iterator import Member, member_offsets, read_tasks

#: enum syscall_work_bit: SYSCALL_WORK_BIT_SYSCALL_EMU, SYSCALL_WORK_BIT_SYSCALL_USER_DISPATCH.
EMULATED, DISPATCHED = 1 << 3, 1 << 5

_WORK = struct.Struct("Q")


def return_probes_call() -> bool:
    """Whether return probes make a system call on this kernel. Raises KwatchError."""
    return runtime_types().functions["__x64_sys_uretprobe"] > 0


def work_of(pid: int) -> int:
    """The `syscall_work` of all threads of a process together; 0 if return probes need no call.

    Raises OSError or KwatchError.
    """
    if not return_probes_call():
        return 0
    (offset,) = member_offsets("thread_info.syscall_work").values()
    work = Member(offset, _WORK.size)
    found = 0
    for (flags,) in _WORK.iter_unpack(read_tasks("syscall_work", pid, [work])):
        found |= flags
    return found
