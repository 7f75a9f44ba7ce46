# SPDX-License-Identifier: Apache-2.0
"""A grace period is not over before a BPF program that was running when it began has ended."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
import time

import pytest
from harness.lines import DEADLINE

from kwatch.kernel import bpf
from kwatch.kernel.grace_period import GracePeriods, Retired
from kwatch.kernel.syscall import syscall

BUFFER_SIZE = 4 << 20
MAX_CLEARS = 4000  # the verifier refuses loops with twice as many branches
RUN_NS = min(int(DEADLINE * 5_000_000), (1 << 31) - 1)  # 0.3 s; an instruction holds 31 bits
NOT_STARTED, RUNNING, ENDED = range(3)
FIRST = bytes(4)


class TestRun(ctypes.Structure):
    """BPF_PROG_TEST_RUN, as in union bpf_attr."""

    __test__ = False
    COMMAND = 10
    _fields_ = (
        ("prog_fd", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("data_in", ctypes.c_uint64),
        ("data_out", ctypes.c_uint64),
        ("repeat", ctypes.c_uint32),
        ("duration", ctypes.c_uint32),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_uint64),
        ("ctx_out", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
    )


def instruction(code, registers=0, offset=0, immediate=0):
    return struct.pack("<BBhi", code, registers, offset, immediate)


def value_address(register, fd):
    """A load of the address of an array's first value (BPF_PSEUDO_MAP_VALUE)."""
    return instruction(0x18, 2 << 4 | register, 0, fd) + instruction(0)


def slow_program(state, buffer):
    """Sets `state` to RUNNING, has the kernel clear `buffer` for RUN_NS, sets it to ENDED.

    bpf_probe_read_kernel() clears the buffer when it cannot read, as from address 0.
    """
    call, move, move_value = 0x85, 0xBF, 0xB7
    return b"".join(
        [
            value_address(8, state),
            value_address(7, buffer),
            instruction(0x7A, 8, 0, RUNNING),  # *(u64 *)r8 = RUNNING
            instruction(call, 0, 0, 5),  # bpf_ktime_get_ns()
            instruction(move, 0 << 4 | 9),  # r9 = r0
            instruction(move_value, 6, 0, 0),  # r6 = 0
            # loop:
            instruction(move, 7 << 4 | 1),  # r1 = r7
            instruction(move_value, 2, 0, BUFFER_SIZE),
            instruction(move_value, 3, 0, 0),
            instruction(call, 0, 0, 113),  # bpf_probe_read_kernel(r1, r2, r3)
            instruction(call, 0, 0, 5),
            instruction(0x1F, 9 << 4 | 0),  # r0 -= r9
            instruction(0x25, 0, 2, RUN_NS),  # if r0 > RUN_NS: goto end
            instruction(0x07, 6, 0, 1),  # r6 += 1
            instruction(0xA5, 6, -9, MAX_CLEARS),  # if r6 < MAX_CLEARS: goto loop
            # end:
            instruction(0x7A, 8, 0, ENDED),
            instruction(move_value, 0, 0, 0),
            instruction(0x95),
        ]
    )


class SlowProgram:
    """A program that another thread runs on `cpu`, where a grace period has to wait for it."""

    def __init__(self, cpu):
        self._cpu = cpu
        self._state = bpf.create_array("state", 8, 1)
        self._buffer = bpf.create_array("buffer", BUFFER_SIZE, 1)
        code = slow_program(self._state.fd, self._buffer.fd)
        self._program = bpf.load_program("slow", code, bpf.PROG_TYPE_RAW_TRACEPOINT)
        self._thread: threading.Thread | None = None

    @property
    def state(self):
        return int.from_bytes(self._state.get(FIRST), "little")

    def _run(self):
        os.sched_setaffinity(0, {self._cpu})
        attr = TestRun(prog_fd=self._program)
        syscall("bpf", TestRun.COMMAND, attr, ctypes.sizeof(attr))

    def start(self):
        """Returns while it runs."""
        self.join()
        self._state.set(FIRST, bytes(8))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        end = time.monotonic() + DEADLINE
        while self.state == NOT_STARTED:
            assert time.monotonic() < end
        assert self.state == RUNNING

    def join(self):
        if self._thread is not None:
            self._thread.join()

    def close(self):
        self.join()
        for fd in (self._program, self._state.fd, self._buffer.fd):
            os.close(fd)


@pytest.fixture
def slow():
    """While the program has its CPU, the test needs another."""
    cpus = os.sched_getaffinity(0)
    *others, last = sorted(cpus)
    os.sched_setaffinity(0, others)
    program = SlowProgram(last)
    yield program
    program.close()
    os.sched_setaffinity(0, cpus)


@pytest.fixture
def periods():
    made = GracePeriods()
    yield made
    made.close()


def test_a_grace_period_waits_for_a_running_program(slow, periods):
    for _ in range(3):  # the second change of the map does not change its value
        slow.start()
        periods.begin().result(DEADLINE)
        assert slow.state == ENDED


def test_a_change_to_another_map_does_not_wait(slow):
    """The program is slow enough for the test above to fail where nothing waits."""
    other = bpf.create_array("other", 8, 1)
    slow.start()
    other.set(FIRST, bytes(8))
    assert slow.state == RUNNING
    os.close(other.fd)


def test_what_is_given_up_is_released(periods):
    retired = Retired(periods)
    retired.add("thing")
    assert retired.released() == []
    assert retired._period is not None
    retired._period.result(DEADLINE)
    assert retired.released() == ["thing"]
