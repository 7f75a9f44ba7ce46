# SPDX-License-Identifier: Apache-2.0
"""Where the records of io_uring's tracepoints have their members on the running kernel.

Linux 5.1 (commit c826bd7a743f) to 6.3 call the submission io_uring_submit_sqe, later kernels
io_uring_submit_req (commit 2ad57931db64). Members came and moved: `req` in 5.18, `flags` in 5.18.
"""

from __future__ import annotations

import errno

from kwatch.kernel import tracefs
from kwatch.kernel.syscall import syscall
from kwatch.programs.sources import TRACEPOINTS, Tracepoint

_SETUP = 425  # on every architecture
_SUBMIT = ("ctx", "req", "user_data", "opcode", "flags")
_COMPLETE = ("ctx", "req", "user_data", "res", "cflags")
_NEEDED = ("ctx", "user_data")

Members = dict[str, tuple[int, int]]


def exists() -> bool:
    """Whether programs can use io_uring at all."""
    try:
        syscall("io_uring_setup", 0, 0)
    except OSError as error:
        return error.errno not in (errno.ENOSYS, errno.EPERM)
    return True


def is_traceable() -> bool:
    try:
        return bool(macros())
    except OSError:
        return False


def macros() -> dict[str, str]:
    """What bpf/io_uring.bpf.c needs; empty if the kernel lacks the tracepoints. Raises OSError."""
    submit = _members(TRACEPOINTS["io_submitted"])
    complete = _members(TRACEPOINTS["io_completed"])
    if not all(name in found for found in (submit, complete) for name in _NEEDED):
        return {}
    found = {f"IO_SUBMIT_{name.upper()}": str(submit.get(name, (0, 0))[0]) for name in _SUBMIT}
    found |= {
        f"IO_COMPLETE_{name.upper()}": str(complete.get(name, (0, 0))[0]) for name in _COMPLETE
    }
    found["IO_FLAGS_TYPE"] = "u64" if submit.get("flags", (0, 0))[1] == 8 else "u32"
    found["IO_RESULT_TYPE"] = "s64" if complete["res"][1] == 8 else "s32"
    return found


def _members(tracepoint: Tracepoint) -> Members:
    """Offset and size of each member; none if there is no such tracepoint."""
    for name in filter(None, (tracepoint.name, tracepoint.older)):
        try:
            return tracefs.members(name)
        except FileNotFoundError:
            continue
    return {}
