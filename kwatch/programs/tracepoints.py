# SPDX-License-Identifier: Apache-2.0
"""The tracepoints that the programs attach to, and the two ways to do so.

As raw tracepoints, which cost less, wherever their programs cannot be preempted. Where they can be,
the kernel skips a program for all threads that come to it on a CPU on which one was preempted in
it. perf makes its records of the same tracepoints, and hands them to programs, with preemption off
(commit 16718274ee75). To switch it off in a program is too late: the kernel has entered it, and
that thread would be preempted as soon as it is switched on again, when the program is not left yet.
"""

from __future__ import annotations

import errno
import os

from kwatch.kernel import bpf, perf
from kwatch.kernel.privileges import refused
from kwatch.kernel.tracefs import tracepoint_id


def are_preemptible() -> bool:
    """Whether raw tracepoints' programs can be preempted here.

    They can wherever one may sleep, as on system calls from 7.2 on (commits 439ebd5b5708,
    8cfb77d30920). Before, only the others could be, in 7.0 and 7.1 (commit a46023d5616e).
    """
    try:
        program = bpf.load_program(
            "probe_sleep", bpf.RETURN_ZERO, bpf.PROG_TYPE_RAW_TRACEPOINT, flags=bpf.SLEEPABLE
        )
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    os.close(program)
    return True


def program_type(through_perf: bool) -> int:
    return bpf.PROG_TYPE_TRACEPOINT if through_perf else bpf.PROG_TYPE_RAW_TRACEPOINT


def attach(tracepoint: str, program: int, through_perf: bool) -> int:
    """Attaches the program until the returned descriptor is closed. Raises KwatchError."""
    try:
        if through_perf:
            return perf.open_tracepoint(tracepoint_id(tracepoint), program)
        return bpf.open_raw_tracepoint(tracepoint.rpartition("/")[2], program)
    except OSError as error:
        raise refused(f"the tracepoint {tracepoint} cannot be attached", error) from error
