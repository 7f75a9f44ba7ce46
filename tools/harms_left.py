# SPDX-License-Identifier: Apache-2.0
"""What a tracer has left behind: processes, and BPF programs and links that no process holds."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

from kwatch.kernel.syscall import syscall

_WAIT_S = 20.0  # the kernel frees objects some time after the last process that held them
_NEXT_ID = {"program": 11, "link": 31}  # BPF_PROG_GET_NEXT_ID, BPF_LINK_GET_NEXT_ID
_KEYS = {"program": "prog_id:", "link": "link_id:"}


class _NextId(ctypes.Structure):
    _fields_ = (("start", ctypes.c_uint32), ("next", ctypes.c_uint32), ("flags", ctypes.c_uint32))


def left_behind(mark: str, besides: int) -> list[str]:
    """Waits until nothing is left, or for as long as the kernel may need.

    `mark`: in the environment of kwatch and its helpers. `besides`: the pid that started them.
    """
    deadline = time.monotonic() + _WAIT_S
    while found := [*_processes(mark, besides), *_orphans()]:
        if time.monotonic() > deadline:
            return found
        time.sleep(0.1)
    return []


def _processes(mark: str, besides: int) -> Iterator[str]:
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            comm = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        if int(pid) != besides and mark.encode() in environment.split(b"\0"):
            yield f"process {comm}[{pid}]"


def _orphans() -> list[str]:
    """Objects that no process holds, twice in a row: one may be on its way between two."""
    first = _unheld()
    return [f"{kind} {number}" for kind, number in first & _unheld()] if first else []


def _unheld() -> set[tuple[str, int]]:
    existing = {(kind, number) for kind in _NEXT_ID for number in _ids(kind)}
    held = set(_held())
    return existing - held


def _ids(kind: str) -> Iterator[int]:
    attr = _NextId()
    while True:
        try:
            syscall("bpf", _NEXT_ID[kind], attr, ctypes.sizeof(attr))
        except OSError:
            return
        yield attr.next
        attr.start = attr.next


def _held() -> Iterator[tuple[str, int]]:
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            descriptors = os.listdir(f"/proc/{pid}/fdinfo")
        except OSError:
            continue
        for descriptor in descriptors:
            yield from _ids_of(f"/proc/{pid}/fdinfo/{descriptor}")


def _ids_of(path: str) -> Iterator[tuple[str, int]]:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return
    for line in lines:
        for kind, key in _KEYS.items():
            if line.startswith(key):
                yield kind, int(line.split()[1])
