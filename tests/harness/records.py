# SPDX-License-Identifier: Apache-2.0
"""Records of the wire format by the names of their fields; what is not given is zero."""

from __future__ import annotations

from kwatch.events import HEAP, STACKED_SYSCALL, SYSCALL


def heap_record(**fields):
    return tuple(fields.get(name, 0) for name in HEAP.names)


def syscall_record(**fields):
    return tuple(fields.get(name, 0) for name in SYSCALL.names)


def stacked_syscall_record(**fields):
    return tuple(fields.get(name, 0) for name in STACKED_SYSCALL.names)
