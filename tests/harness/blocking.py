# SPDX-License-Identifier: Apache-2.0
"""Waits until threads of a program are blocked in the calls that they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.waiting import wait_until
from kwatch.procfs.current_call import current_call
from kwatch.syscalls.names import name


def wait_for_calls(pid: int, calls: Mapping[int, str]) -> None:
    """`calls`: the name of each thread's call."""
    wait_until(lambda: {tid: call_of(pid, tid) for tid in calls} == calls)


def wait_for_any_call(pid: int, tids: Iterable[int]) -> None:
    wait_until(lambda: all(call_of(pid, tid) for tid in tids))


def call_of(pid: int, tid: int) -> str:
    """The call that the thread is blocked in; empty if it is in none."""
    call = current_call(pid, tid)
    return name(call.abi, call.nr) if call else ""
