# SPDX-License-Identifier: Apache-2.0
"""Threads whose system calls the kernel hands to the program or its tracer, instead of making them.

On x86-64, return probes make a system call of their own since Linux 6.11 (commit ff474a78cef5):
such a thread would not get past it. Both kinds show in `thread_info.syscall_work` alone
(include/linux/thread_info.h), which a BPF program reads, because /proc does not show it.
"""

from __future__ import annotations

import os
import struct
from functools import cache

from kwatch.kernel import bpf
from kwatch.kernel.btf import KernelTypes

#: enum syscall_work_bit: SYSCALL_WORK_BIT_SYSCALL_EMU, SYSCALL_WORK_BIT_SYSCALL_USER_DISPATCH.
EMULATED, DISPATCHED = 1 << 3, 1 << 5

_WORK = struct.Struct("Q")
_PROBE_READ_KERNEL, _SEQ_WRITE = 113, 127
_R0, _R1, _R2, _R3, _R6, _R7, _R10 = 0, 1, 2, 3, 6, 7, 10


def return_probes_call() -> bool:
    """Whether return probes make a system call on this kernel."""
    return _reader() is not None


def work_of(pid: int) -> int:
    """The `syscall_work` of all threads of a process together; 0 if return probes need no call.

    Raises OSError.
    """
    reader = _reader()
    if reader is None:
        return 0
    code, iterator = reader
    kind, attach_type = bpf.PROG_TYPE_TRACING, bpf.TRACE_ITER
    program = bpf.load_program("syscall_work", code, kind, attach_type, attach_btf_id=iterator)
    try:
        records = bpf.read_tasks(program, pid)
    finally:
        os.close(program)
    found = 0
    for (work,) in _WORK.iter_unpack(records):
        found |= work
    return found


@cache
def _reader() -> tuple[bytes, int] | None:
    """A program that writes the `syscall_work` of each task, and the id of its attach point.

    None if return probes make no system call. Raises OSError or KwatchError.
    """
    types = KernelTypes()
    if not types.function("__x64_sys_uretprobe"):
        return None
    code = _code(types.offset("task_struct", "thread_info.syscall_work"))
    return code, types.function("bpf_iter_task")


def _code(offset: int) -> bytes:
    """The context is struct bpf_iter__task: the meta, which begins with the output, and the task.

    After the last task, the program is called with NULL.
    """
    instructions = (
        (0x79, _R6, _R1, 0, 0),  # r6 = meta
        (0x79, _R7, _R1, 8, 0),  # r7 = task
        (0x15, _R7, 0, 11, 0),  # if r7 == 0: end
        (0xBF, _R1, _R10, 0, 0),
        (0x07, _R1, 0, 0, -8),  # r1 = the stack
        (0xB7, _R2, 0, 0, 8),
        (0xBF, _R3, _R7, 0, 0),
        (0x07, _R3, 0, 0, offset),
        (0x85, 0, 0, 0, _PROBE_READ_KERNEL),
        (0x79, _R1, _R6, 0, 0),  # r1 = meta->seq
        (0xBF, _R2, _R10, 0, 0),
        (0x07, _R2, 0, 0, -8),
        (0xB7, _R3, 0, 0, 8),
        (0x85, 0, 0, 0, _SEQ_WRITE),
        (0xB7, _R0, 0, 0, 0),
        (0x95, 0, 0, 0, 0),
    )
    return b"".join(
        struct.pack("<BBhi", code, to | source << 4, jump, value)
        for code, to, source, jump, value in instructions
    )
