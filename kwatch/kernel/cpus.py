# SPDX-License-Identifier: Apache-2.0
"""The machine's CPUs, and how large a ring each of them gets."""

from __future__ import annotations

import os

_MAX_TOTAL = 256 << 20
_DEFAULT_SIZE = 8 << 20
_MIN_DEFAULT = 1 << 20


def online_cpus() -> list[int]:
    """The CPUs that events can come from now."""
    with open("/sys/devices/system/cpu/online") as file:
        return _cpus(file.read())


def possible_cpus() -> int:
    """How many CPUs may ever come: one more than the highest number."""
    with open("/sys/devices/system/cpu/possible") as file:
        return _cpus(file.read())[-1] + 1


def _cpus(text: str) -> list[int]:
    """From the kernel's list format: `0-3,8`."""
    ranges = [part.split("-") for part in text.strip().split(",")]
    return [cpu for span in ranges for cpu in range(int(span[0]), int(span[-1]) + 1)]


def default_ring_size() -> int:
    """Bytes per CPU and ring: 8 MiB, less on machines with so many CPUs that it would add up."""
    size = _DEFAULT_SIZE
    while size > _MIN_DEFAULT and size * (os.cpu_count() or 1) > _MAX_TOTAL:
        size //= 2
    return size
