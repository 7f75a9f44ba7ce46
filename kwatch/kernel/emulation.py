# SPDX-License-Identifier: Apache-2.0
"""Which instructions this kernel emulates under a uprobe, found by probing one.

An instruction that is not emulated is single-stepped in a page that the kernel adds to the
process, "[uprobes]" in its mappings (linux kernel/events/uprobes.c, xol_add_vma). So a child runs
the probed instruction once, and then looks for that page.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from functools import cache

import numpy as np

from kwatch.kernel import bpf, perf
from kwatch.kernel.syscall import machine

#: How to return after an instruction, and instructions at which functions begin.
_RETURN = {"x86_64": b"\xc3", "aarch64": b"\xc0\x03\x5f\xd6"}
INSTRUCTIONS = {
    "x86_64": {
        "push": b"\x55\x5d",  # push %rbp, and the pop that undoes it
        "nop": b"\x90",
        "endbr64": b"\xf3\x0f\x1e\xfa",
        "test": b"\x48\x85\xff",
    },
    "aarch64": {
        "nop": b"\x1f\x20\x03\xd5",
        "cbz": b"\x20\x00\x00\xb4",  # cbz x0 to what follows
        "paciasp": b"\x3f\x23\x03\xd5\xbf\x23\x03\xd5",  # and autiasp
        "stp": b"\xfd\x7b\xbf\xa9\xfd\x7b\xc1\xa8",  # of x29, x30 to the stack, and the ldp
    },
}


@cache
def emulates(name: str) -> bool:
    """Whether the kernel emulates INSTRUCTIONS[machine][name]. Raises OSError or KwatchError."""
    code = INSTRUCTIONS[machine()][name] + _RETURN[machine()]
    program = bpf.load_program("probe_emulation", bpf.RETURN_ZERO, bpf.PROG_TYPE_KPROBE)
    file = os.memfd_create("instruction")
    try:
        os.write(file, code)
        path = f"/proc/{os.getpid()}/fd/{file}"
        event = perf.open_uprobe(path, 0, perf.EVERY_PROCESS, False)
        probe = perf.with_program(event, program)
        try:
            return not _is_stepped(file, len(code))
        finally:
            os.close(probe)
    finally:
        os.close(file)
        os.close(program)


def _is_stepped(file: int, size: int) -> bool:
    child = os.fork()
    if child == 0:
        os._exit(_run(file, size))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) != 0


def _run(file: int, size: int) -> int:
    """In the child: 1 if the kernel had to single-step."""
    code = mmap.mmap(file, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    ctypes.CFUNCTYPE(None)(np.frombuffer(code, np.uint8).ctypes.data)()
    with open("/proc/self/maps") as maps:
        return int("[uprobes]" in maps.read())
