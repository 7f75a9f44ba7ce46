# SPDX-License-Identifier: Apache-2.0
"""The system call that a thread is blocked in: what /proc/PID/task/TID/syscall says."""

from __future__ import annotations

import os
import threading

import pytest

from kwatch.procfs.current_call import CurrentCall, current_call, parsed
from kwatch.syscalls import names
from kwatch.wire.events import Abi

ARGUMENTS = "0x3 0x1 0x0 0x0 0x0 0x0"
FAR, NEAR = "0x7ffc2f93b2c8 0x7f09d6fe9d5e", "0xffa3b0e0 0xf7fb7579"


@pytest.mark.parametrize(
    ("line", "machine", "expected"),
    [
        ("running", "x86_64", None),
        ("-1 0x7ffc2f93b2c8 0x55d6e6f0c1a9", "x86_64", None),
        (f"0 {ARGUMENTS} 0x0 0x0", "x86_64", None),  # a worker of io_uring
        (f"-1 {ARGUMENTS} {FAR}", "x86_64", None),
        (f"0 {ARGUMENTS} {FAR}", "x86_64", (Abi.X86_64, 0)),
        (f"102 {ARGUMENTS} {NEAR}", "x86_64", (Abi.I386, 102)),
        (f"1073742343 {ARGUMENTS} {NEAR}", "x86_64", (Abi.X32, 519)),
        (f"63 {ARGUMENTS} {FAR}", "aarch64", (Abi.AARCH64, 63)),
        (f"3 {ARGUMENTS} {NEAR}", "aarch64", (Abi.ARM, 3)),
    ],
)
def test_lines(line: str, machine: str, expected: tuple[Abi, int] | None) -> None:
    found = parsed(line.encode().split(), machine)
    assert found == (CurrentCall(*expected, first_argument=3) if expected else None)


def test_a_thread_that_reads() -> None:
    reader, writer = os.pipe()
    thread = threading.Thread(target=os.read, args=(reader, 1))
    thread.start()
    read = names.number(Abi[os.uname().machine.upper()], "read")
    assert thread.native_id is not None
    while (call := current_call(os.getpid(), thread.native_id)) is None or call.nr != read:
        os.sched_yield()
    os.write(writer, b"x")
    thread.join()
    assert call.first_argument == reader
    assert current_call(os.getpid(), thread.native_id) is None
    os.close(reader)
    os.close(writer)
