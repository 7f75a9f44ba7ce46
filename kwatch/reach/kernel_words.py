# SPDX-License-Identifier: Apache-2.0
"""Pointers that a program has given to the kernel and may have nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from kwatch.errors import KwatchError
from kwatch.kernel.task_iterator import Member, member_offsets, read_tasks
from kwatch.reach.task import task_with_memory

_EPOLL = "anon_inode:[eventpoll]"
#: A line of ep_show_fdinfo() in linux fs/eventpoll.c.
_DATA = re.compile(rb"^tfd:.*data: *([0-9a-f]+)", re.MULTILINE)


class KernelWord(NamedTuple):
    """`place`: what holds the value, such as `signal stack of thread 7`."""

    place: str
    value: int


def kernel_words(pid: int) -> list[KernelWord]:
    """What epoll returns with events, and where threads have their signal stacks.

    It is not free for the process: while the kernel lists an epoll instance, its events wait, for
    about 1 ms for each 1,000 descriptors in it.
    """
    return [*_signal_stacks(pid), *_epoll_data(pid)]


def _signal_stacks(pid: int) -> Iterator[KernelWord]:
    """None if BPF or the kernel's types cannot be used."""
    with suppress(OSError, KwatchError):
        offsets = member_offsets("pid", "sas_ss_sp")
        members = [Member(offsets["pid"], 4), Member(offsets["sas_ss_sp"], 8)]
        records = read_tasks("signal_stacks", pid, members)
        for tid, start in np.frombuffer(records, [("tid", "<u4"), ("start", "<u8")]).tolist():
            if start:
                yield KernelWord(f"signal stack of thread {tid}", start)


def _epoll_data(pid: int) -> Iterator[KernelWord]:
    with suppress(OSError):  # it has ended
        folder = f"/proc/{task_with_memory(pid)}"
        for descriptor in os.listdir(f"{folder}/fd"):
            with suppress(OSError):  # it has been closed
                if os.readlink(f"{folder}/fd/{descriptor}") == _EPOLL:
                    with open(f"{folder}/fdinfo/{descriptor}", "rb") as file:
                        found = _DATA.findall(file.read())
                    for value in found:
                        yield KernelWord(f"data of epoll descriptor {descriptor}", int(value, 16))
