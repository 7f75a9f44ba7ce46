# SPDX-License-Identifier: Apache-2.0
"""What kwatch needs to be allowed, asked of the kernel."""

from __future__ import annotations

import contextlib
import os
import resource
from functools import cache

from kwatch.errors import KwatchError

_CAP_SYS_ADMIN = 21
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h


def is_privileged() -> bool:
    """Whether this process has CAP_SYS_ADMIN, which loading, probing and /proc links ask for."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)


def in_initial_pid_namespace() -> bool:
    """Elsewhere the pids that BPF programs see are not the ones seen here."""
    return os.readlink("/proc/self/ns/pid") == _INITIAL_PID_NAMESPACE


def raise_descriptor_limit() -> None:
    """Each traced process takes a few descriptors: as many as may be had without asking."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@cache
def raise_memory_limit() -> None:
    """Lets maps be as large as they have to; OSError is left to whoever makes one.

    Until Linux 5.11 they count as locked memory, of which 64 KiB are allowed; since commit
    97306be45fbe they are charged to the control group.
    """
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)


def require_privileges() -> None:
    """Raises KwatchError with the cure."""
    if not is_privileged():
        raise KwatchError("kwatch needs root: it loads BPF programs", "run it with sudo")
    if not in_initial_pid_namespace():
        raise KwatchError(
            "kwatch runs in a container's pid namespace, where pids are not the kernel's",
            "run it on the host, or with the host's pid namespace (docker run --pid=host)",
        )
