# SPDX-License-Identifier: Apache-2.0
"""A system call as filters see it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Call:
    """One call. None: the call has no such value, or it is not known.

    `pid`: of the process (tgid). `comm` (without zeros), `uid`, `cgroup_id`: at the entry. Ids are
    those of the initial namespaces. `cgroup`: a path such as `/system.slice/nginx.service`.
    `args`: six registers as signed 64-bit numbers, those of a 32-bit program without sign, 0 for
    arguments that the call does not take. `ret`: None if the call has not returned. `fd` and
    `path`: of the first arguments of that kind.
    """

    pid: int
    tid: int
    comm: bytes
    uid: int
    cgroup_id: int
    syscall: str
    args: tuple[int, int, int, int, int, int]
    ret: int | None = None
    duration_ns: int | None = None
    cgroup: bytes | None = None
    fd: int | None = None
    path: bytes | None = None
