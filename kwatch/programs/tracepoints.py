# SPDX-License-Identifier: Apache-2.0
"""Attaches programs to tracepoints, as raw tracepoints or through perf.

Raw tracepoints cost less and are used if their programs cannot be preempted. If they can be, and a
thread is preempted inside a program, the kernel skips the program for every other thread that
reaches it on the same CPU. perf calls programs for the same tracepoints with preemption off (commit
16718274ee75). A program cannot turn preemption off itself: the kernel has entered it already, and
the thread would be preempted when preemption is turned on again, before the program is left.
"""

from __future__ import annotations

import errno
import os

from kwatch.kernel import bpf, perf
from kwatch.kernel.privileges import refused
from kwatch.kernel.tracefs import tracepoint_id
from kwatch.programs.sources import Tracepoint


def are_preemptible() -> bool:
    """Whether programs on raw tracepoints can be preempted on this kernel.

    They can be wherever a program may sleep, as on system calls from 7.2 on (commits 439ebd5b5708,
    8cfb77d30920). In 7.0 and 7.1, only those on other tracepoints could be (commit a46023d5616e).
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


def attach(tracepoint: Tracepoint, program: int, through_perf: bool) -> int:
    """Attaches the program until the returned descriptor is closed. Raises KwatchError."""
    try:
        if through_perf or tracepoint.through_perf:
            return perf.open_tracepoint(_id(tracepoint), program)
        return bpf.open_raw_tracepoint(tracepoint.name.rpartition("/")[2], program)
    except OSError as error:
        raise refused(f"the tracepoint {tracepoint.name} cannot be attached", error) from error


def _id(tracepoint: Tracepoint) -> int:
    try:
        return tracepoint_id(tracepoint.name)
    except FileNotFoundError:
        if not tracepoint.older:
            raise
        return tracepoint_id(tracepoint.older)
