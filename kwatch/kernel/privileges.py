# SPDX-License-Identifier: Apache-2.0
"""The privileges and the surroundings that kwatch needs."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import struct
from collections.abc import Callable
from functools import cache

from kwatch.errors import CURE_OF_TOO_MANY_FILES, TOO_MANY_FILES, KwatchError, Refused

_CAP_SYS_ADMIN = 21
_CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3, include/uapi/linux/capability.h
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h
#: A file of each file system that must be mounted, and how to mount it.
_MOUNTED = {
    "/proc": ("/proc/self/stat", "mount it: mount -t proc proc /proc"),
    "/sys": ("/sys/devices/system/cpu/possible", "mount it: mount -t sysfs sysfs /sys"),
}


def is_privileged() -> bool:
    """Whether this process has CAP_SYS_ADMIN: loading, probing and /proc links need it."""
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION, 0), 8)
    found = ctypes.create_string_buffer(24)
    if ctypes.CDLL(None).capget(header, found):
        return False
    effective: int = struct.unpack_from("I", found)[0]
    return bool(effective >> _CAP_SYS_ADMIN & 1)


def in_initial_pid_namespace() -> bool:
    """In other namespaces, pids differ from those that BPF programs see."""
    return os.readlink("/proc/self/ns/pid") == _INITIAL_PID_NAMESPACE


def raise_descriptor_limit() -> None:
    """Raises the soft limit to the hard one: each traced process takes a few descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@cache
def raise_memory_limit() -> None:
    """Removes the limit of locked memory; if that fails, creating a map raises OSError.

    Before Linux 5.11, maps count as locked memory, with a limit of 64 KiB. Since commit
    97306be45fbe they are charged to the control group.
    """
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)


def require_root() -> None:
    """Raises KwatchError with the cure."""
    if not is_privileged():
        raise KwatchError("kwatch needs root: CAP_SYS_ADMIN is missing", "run it with sudo")


def require_initial_pid_namespace() -> None:
    """Raises KwatchError with the cure."""
    if not in_initial_pid_namespace():
        raise KwatchError(
            "kwatch runs in a container's pid namespace, whose pids differ from the kernel's",
            "run it on the host, or with the host's pid namespace (docker run --pid=host)",
        )


def require_mounts() -> None:
    """Raises KwatchError with the cure."""
    for folder, (file, command) in _MOUNTED.items():
        if not os.path.exists(file):
            raise KwatchError(f"kwatch needs {folder}, which is not mounted here", command)


def require_host_time() -> None:
    """Raises KwatchError with the cure. BPF programs see the host's monotonic clock."""
    if any(_time_offsets()):
        raise KwatchError(
            "kwatch runs in a time namespace, whose clock differs from the kernel's",
            "run it outside: nsenter --time=/proc/1/ns/time kwatch ...",
        )


def _time_offsets() -> list[int]:
    """Seconds and nanoseconds of each clock, which a time namespace adds; time_namespaces(7)."""
    try:
        with open("/proc/self/timens_offsets") as file:
            return [int(word) for line in file for word in line.split()[1:]]
    except OSError:
        return []  # before Linux 5.6, commit 769071ac9f20, or without CONFIG_TIME_NS


def refused(what: str, error: OSError) -> Refused:
    """An error that says why `what` failed."""
    return Refused(f"{what}: {error.strerror or error}", cure_of(error))


def cure_of(error: OSError) -> str:
    """What the user can do about an error of bpf(2) or perf_event_open(2)."""
    if error.errno in TOO_MANY_FILES:
        return CURE_OF_TOO_MANY_FILES
    if error.errno == errno.ENOMEM:
        return "there is not enough memory: use a smaller --buffer"
    if error.errno not in (errno.EPERM, errno.EACCES):
        return (
            "the kernel does not support it: use a newer kernel, or one with more options enabled"
        )
    if os.geteuid() != 0:
        return "run kwatch as root"
    return "a policy forbids it, such as a container's seccomp profile: run kwatch on the host"


#: By the name of the check in `kwatch doctor`.
REQUIRED: dict[str, Callable[[], None]] = {
    "privileges": require_root,
    "mounted /proc, /sys": require_mounts,
    "pid namespace": require_initial_pid_namespace,
    "time namespace": require_host_time,
}
