# SPDX-License-Identifier: Apache-2.0
"""What /proc says of descriptors at one moment."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import NamedTuple

from kwatch.descriptors.file import AT_FDCWD
from kwatch.descriptors.live_sockets import LiveSockets

_MARGIN_NS = 1_000_000  # the times of calls have an offset that is measured for each batch


class Reading(NamedTuple):
    """`text`: as /proc/PID/fd/N. `protocol`: of a socket."""

    text: str
    protocol: str | None


class Readings:
    """`at_ns`: all were made before, CLOCK_REALTIME; `read_ns`: the same, CLOCK_MONOTONIC."""

    def __init__(self, wanted: Iterable[tuple[int, int]] = ()) -> None:
        self.sockets = LiveSockets()
        self.found: dict[tuple[int, int], Reading] = {}
        for pid, fd in wanted:
            reading = _read(pid, fd)
            if reading is not None:
                self.found[pid, fd] = reading
        self.at_ns = time.time_ns() + _MARGIN_NS
        self.read_ns = time.monotonic_ns() + _MARGIN_NS


def _read(pid: int, fd: int) -> Reading | None:
    """None if it is closed or the process has ended."""
    path = f"/proc/{pid}/{'cwd' if fd == AT_FDCWD else f'fd/{fd}'}"
    try:
        text = os.readlink(path)
    except (OSError, ValueError):
        return None
    return Reading(text, _protocol(path) if text.startswith("socket:[") else None)


def _protocol(path: str) -> str | None:
    try:
        found = os.getxattr(path, "system.sockprotoname")
    except OSError:
        return None
    return found.rstrip(b"\0").decode(errors="replace")
