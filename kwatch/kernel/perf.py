# SPDX-License-Identifier: Apache-2.0
"""perf_event_open(2): events for BPF output, and events to which programs attach."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

from kwatch.errors import KwatchError
from kwatch.kernel.syscall import syscall

EVERY_PROCESS = -1
_TYPE_SOFTWARE = 1
_TYPE_TRACEPOINT = 2
_COUNT_SW_CPU_CLOCK, _COUNT_SW_BPF_OUTPUT = 0, 10
_SAMPLE_RAW, _SAMPLE_REGS_USER = 1 << 10, 1 << 12
_FLAG_FD_CLOEXEC = 8
_IOC_SET_BPF = 0x40042408
_IOC_ENABLE, _IOC_REFRESH = 0x2400, 0x2402
_CLOCK_MONOTONIC = 1
_UPROBE_PMU = "/sys/bus/event_source/devices/uprobe"

# Bits of perf_event_attr's flag word.
DISABLED, _MMAP, _COMM, _WATERMARK, _SAMPLE_ID_ALL = 1, 1 << 8, 1 << 9, 1 << 14, 1 << 18
_MMAP2, _COMM_EXEC, _USE_CLOCKID = 1 << 23, 1 << 24, 1 << 25
_SAMPLE_TIME = 1 << 2

_ATTR = struct.Struct("IIQQQQQIIQQQQIiQIHH")


_ORDER = (
    "type size config period sample_type read_format flags wakeup bp_type config1 config2 "
    "branch regs_user stack_user clockid regs_intr aux max_stack reserved"
).split()


def attributes(**fields: int) -> ctypes.Array[ctypes.c_char]:
    """A struct perf_event_attr with these members; the others are 0."""
    fields["size"] = _ATTR.size
    return ctypes.create_string_buffer(_ATTR.pack(*(fields.get(name, 0) for name in _ORDER)))


def open_event(pid: int, cpu: int, **fields: int) -> int:
    """perf_event_open(2) with these members of its structure. Raises OSError."""
    attr = attributes(**fields)
    return syscall("perf_event_open", attr, pid, cpu, -1, _FLAG_FD_CLOEXEC)


def open_output(cpu: int, wakeup: int, mappings: bool = False) -> int:
    """An event for the output of BPF programs on `cpu`; readable when it holds `wakeup` bytes.

    Every record carries its CLOCK_MONOTONIC time. `mappings`: the kernel adds a PERF_RECORD_MMAP2
    for each executable mapping made on the CPU, and a PERF_RECORD_COMM for each new name of a
    thread.
    """
    flags = _WATERMARK | _USE_CLOCKID | _SAMPLE_ID_ALL
    if mappings:
        flags |= _MMAP | _MMAP2 | _COMM | _COMM_EXEC
    return open_event(
        -1,
        cpu,
        type=_TYPE_SOFTWARE,
        config=_COUNT_SW_BPF_OUTPUT,
        period=1,
        sample_type=_SAMPLE_RAW | _SAMPLE_TIME,
        flags=flags,
        wakeup=wakeup,
        clockid=_CLOCK_MONOTONIC,
    )


def open_register_sample(tid: int, mask: int, period: int) -> int:
    """An event that samples a thread's registers of user code once, after `period` ns of its CPU.

    `mask`: which registers, by perf's numbers. The event is readable when it has its sample.
    """
    fd = open_event(
        tid,
        -1,
        type=_TYPE_SOFTWARE,
        config=_COUNT_SW_CPU_CLOCK,
        period=period,
        sample_type=_SAMPLE_REGS_USER,
        flags=DISABLED,
        wakeup=1,
        regs_user=mask,
    )
    try:
        fcntl.ioctl(fd, _IOC_REFRESH, 1)
    except OSError:
        os.close(fd)
        raise
    return fd


def enable(fd: int) -> None:
    fcntl.ioctl(fd, _IOC_ENABLE, 0)


def uprobe_type() -> int:
    """The event type of uprobes. Raises KwatchError if the kernel has none."""
    try:
        with open(f"{_UPROBE_PMU}/type") as file:
            return int(file.read())
    except FileNotFoundError as error:
        raise KwatchError(
            f"the kernel has no perf uprobes: {_UPROBE_PMU} is missing",
            "use a kernel with CONFIG_UPROBE_EVENTS, or --no-heap",
        ) from error


def open_uprobe(path: str, offset: int, pid: int, is_return: bool) -> int:
    """An event at one place of a file in one process (-1: all), until it is closed.

    The event stays disabled: its program runs nevertheless, and context switches of the target
    have no event to schedule. Raises KwatchError if the kernel has no such events.
    """
    name = ctypes.create_string_buffer(os.fsencode(path))
    return open_event(
        pid,
        0 if pid < 0 else -1,
        type=uprobe_type(),
        config=int(is_return),
        flags=DISABLED,
        config1=ctypes.addressof(name),
        config2=offset,
    )


def open_tracepoint(number: int, program: int) -> int:
    """Attaches a program to a tracepoint, on every CPU, until it is closed.

    `number`: its id in tracefs. The event stays disabled; its program runs nevertheless.
    """
    fd = open_event(EVERY_PROCESS, 0, type=_TYPE_TRACEPOINT, config=number, flags=DISABLED)
    return with_program(fd, program)


def with_program(fd: int, program: int) -> int:
    """Attaches a program to an event; closes the event if that fails."""
    try:
        fcntl.ioctl(fd, _IOC_SET_BPF, program)
    except OSError:
        os.close(fd)
        raise
    return fd
