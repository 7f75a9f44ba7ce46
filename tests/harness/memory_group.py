# SPDX-License-Identifier: Apache-2.0
"""A control group with a limit of memory, in either version."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

V1 = Path("/sys/fs/cgroup/memory")


@contextmanager
def memory_group(limit: int, place: Path) -> Iterator[Path]:
    """Its folder: write a pid to its cgroup.procs. `place`: where version 2 may be mounted."""
    if V1.is_dir():
        with _child(V1, "memory.limit_in_bytes", limit) as group:
            yield group
        return
    subprocess.run(["mount", "-t", "cgroup2", "none", place], check=True)
    try:
        (place / "cgroup.subtree_control").write_text("+memory")
        with _child(place, "memory.max", limit) as group:
            yield group
    finally:
        subprocess.run(["umount", place], check=True)


@contextmanager
def _child(parent: Path, file: str, limit: int) -> Iterator[Path]:
    group = parent / "kwatch-test"
    group.mkdir()
    try:
        (group / file).write_text(str(limit))
        yield group
    finally:
        group.rmdir()
