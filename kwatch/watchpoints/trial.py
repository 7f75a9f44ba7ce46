# SPDX-License-Identifier: Apache-2.0
"""What the watchpoints of this machine can do and cost, found by trying them in kwatch itself.

On some processors each armed data watchpoint makes `rep movs` and `rep stos` slow, hit or not. The
C library and the kernel copy large buffers with them.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass

from kwatch.errors import KwatchError
from kwatch.kernel import bpf, breakpoints, perf
from kwatch.kernel.breakpoints import Access, Breakpoint
from kwatch.system import signals
from kwatch.system.child import die_with_parent, reap
from kwatch.watchpoints.events import refused_watchpoint

_MAX_REGISTERS = 64
_COPIED = 30 << 10  # bytes: a file that a web server sends
_REPETITIONS = 50
_HIT_S = 2.0
_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Trial:
    """`free`: how many watchpoints can be set. `slowdown`: of a copy of 30 KB while one is set."""

    free: int
    slowdown: float


def try_watchpoints() -> Trial:
    """Raises KwatchError if they do not work."""
    with mmap.mmap(-1, mmap.PAGESIZE + 2 * _COPIED) as memory:
        own = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        _require_hit(own)
        with ExitStack() as stack:
            free = _take_all(own, stack)
        return Trial(free, _slowdown(own))


def _take_all(address: int, stack: ExitStack) -> int:
    """How many watchpoints this thread can have now."""
    for number in range(_MAX_REGISTERS):
        watched = Breakpoint(address + 8 * number, 8, Access.WRITE)
        try:
            stack.callback(os.close, breakpoints.open_breakpoint(watched, 0))
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return number
            raise refused_watchpoint(error) from error
    return _MAX_REGISTERS


def _slowdown(own: int) -> float:
    """Copies with and without an armed watchpoint, in turns; the fastest of each counts."""
    target, source = own + mmap.PAGESIZE, own + mmap.PAGESIZE + _COPIED
    try:
        fd = breakpoints.open_breakpoint(Breakpoint(own, 8, Access.WRITE), 0)
    except OSError:
        return 1.0  # no register is free: nothing is armed later either
    try:
        free = armed = float("inf")
        for _ in range(_REPETITIONS):
            breakpoints.disable(fd)
            free = min(free, _copy_s(target, source))
            perf.enable(fd)
            armed = min(armed, _copy_s(target, source))
    finally:
        os.close(fd)
    return armed / free


def _copy_s(target: int, source: int) -> float:
    began = time.perf_counter()
    ctypes.memmove(target, source, _COPIED)
    return time.perf_counter() - began


def _require_hit(address: int) -> None:
    """A child makes one write to watched memory, with a BPF program behind the watchpoint.

    On arm64 before Linux 6.6 (commit d11a69873d9a) it would make it again and again. Some virtual
    machines accept watchpoints and never report a hit. Raises KwatchError.
    """
    with ExitStack() as stack:
        gate, ours = os.pipe()
        stack.callback(os.close, ours)
        parent = os.getpid()
        child = signals.fork(signal.SIG_DFL)
        if child == 0:
            die_with_parent(parent)
            _write_once(gate, address)
        os.close(gate)
        stack.callback(_end, child)
        try:
            program = bpf.load_program("nothing", bpf.RETURN_ZERO, bpf.PROG_TYPE_PERF_EVENT)
            stack.callback(os.close, program)
            watched = Breakpoint(address, 8, Access.WRITE)
            fd = perf.with_program(breakpoints.open_breakpoint(watched, child), program)
            stack.callback(os.close, fd)
            perf.enable(fd)
        except OSError as error:
            raise refused_watchpoint(error) from error
        os.write(ours, b"x")
        _await(child)
        if not breakpoints.count(fd):
            raise KwatchError(
                "watchpoints do not work here: this machine accepts them and reports no hit",
                "run kwatch on another machine; some virtual machines do not emulate them",
            )


def _write_once(gate: int, address: int) -> None:
    os.read(gate, 1)
    ctypes.memset(address, 1, 1)
    os._exit(0)


def _await(child: int) -> None:
    """Raises KwatchError if the child does not get past its write."""
    until = time.monotonic() + _HIT_S
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while os.waitid(os.P_PID, child, flags) is None:
        if time.monotonic() > until:
            raise KwatchError(
                "this kernel would hang a program at a watchpoint: it does not step over it",
                "on arm64, that takes Linux 6.6",
            )
        time.sleep(0.0005)


def _end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    reap(child)
