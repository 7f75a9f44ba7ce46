# SPDX-License-Identifier: Apache-2.0
"""Waits for states of processes, as /proc shows them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from harness.lines import DEADLINE
from kwatch.procfs.current_call import current_call
from kwatch.syscalls.names import name


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_taken(pid: int, number: int) -> bool:
    """Whether no such signal waits in the process, also since it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True
    waiting = re.findall(r"^(?:Sig|Shd)Pnd:\s*(\w+)", status, re.MULTILINE)
    return not any(int(mask, 16) >> (number - 1) & 1 for mask in waiting)


def is_idle(pid: int) -> bool:
    """Whether the main thread waits for descriptors: it has finished what it was doing."""
    call = current_call(pid, pid)
    return call is not None and name(call.abi, call.nr) in ("epoll_wait", "epoll_pwait", "poll")
