# SPDX-License-Identifier: Apache-2.0
"""What the BPF of the running kernel can do: each feature is tried."""

from __future__ import annotations

import errno
import os
import struct

from kwatch.kernel import bpf


def has_event_cookies() -> bool:
    """Whether this kernel links perf events: one that does, says that -1 is not an event."""
    program = bpf.load_program("probe_cookies", bpf.RETURN_ZERO, bpf.PROG_TYPE_KPROBE)
    try:
        os.close(bpf.link_event(program, (1 << 32) - 1, 0))
    except OSError as error:
        return error.errno == errno.EBADF
    finally:
        os.close(program)
    return True


def has_compare_and_exchange() -> bool:
    """Whether programs have this instruction.

    Linux 5.12 (commit 5ffa25502b5a), on arm64 5.18 (commit 1902472b4fa9).
    """
    store = struct.pack("BBhi", 0x7A, 10, -8, 0)  # *(u64 *)(r10 - 8) = 0
    zero = b"".join(struct.pack("BBhi", 0xB7, register, 0, 0) for register in (0, 1))
    exchange = struct.pack("BBhi", 0xDB, 1 << 4 | 10, -8, 0xF1)  # compares with r0, stores r1
    try:
        code = store + zero + exchange + bpf.RETURN_ZERO
        os.close(bpf.load_program("probe_atomics", code, bpf.PROG_TYPE_KPROBE))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTSUP, bpf.ENOTSUPP):
            return False
        raise
    return True


def has_array_values(size: int) -> bool:
    """Whether the elements of an array may have `size` bytes.

    Before Linux 6.0 at most KMALLOC_MAX_SIZE, 4 MiB on x86-64.
    """
    try:
        os.close(bpf.create_map("probe_values", bpf.MapShape(bpf.MAP_TYPE_ARRAY, 4, size, 1)))
    except OSError as error:
        if error.errno == errno.E2BIG:
            return False
        raise
    return True


def keeps_young_blocks() -> bool:
    """Whether the kernel can do what bpf/young_blocks.h needs."""
    return has_compare_and_exchange() and _runs_programs()


def _runs_programs() -> bool:
    """Whether this process can run a program that is not attached: see bpf.run_program."""
    program = bpf.load_program("probe_run", bpf.RETURN_ZERO, bpf.PROG_TYPE_RAW_TRACEPOINT)
    try:
        bpf.run_program(program, 0)
    except OSError:  # missing, or forbidden by a filter: kwatch does without
        return False
    finally:
        os.close(program)
    return True


def has_uprobe_links() -> bool:
    """Whether this kernel links uprobes."""
    return _links_uprobes(bpf.TRACE_UPROBE_MULTI, 0)


def has_uprobe_sessions() -> bool:
    """Whether a program can refuse a return probe when the function is entered.

    Linux 6.13, commit d920179b3d48.
    """
    return _links_uprobes(bpf.TRACE_UPROBE_SESSION, bpf.UPROBE_SESSION)


def _links_uprobes(attach_type: int, flags: int) -> bool:
    """A kernel with such links says that "/" is not a file to probe."""
    program = bpf.load_program("probe_links", bpf.RETURN_ZERO, bpf.PROG_TYPE_KPROBE, attach_type)
    try:
        os.close(bpf.link_uprobes(program, "/", [0], [0], 0, flags))
    except OSError as error:
        return error.errno == errno.EBADF
    finally:
        os.close(program)
    return True
