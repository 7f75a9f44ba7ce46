# SPDX-License-Identifier: Apache-2.0
"""How much memory is left to a process: of its control groups, and of the machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MOUNT = re.compile(r"\S+ \S+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (\S+)")
_AVAILABLE = re.compile(r"^MemAvailable: +(\d+) kB", re.MULTILINE)
#: Of each version: the limits, what is used, and the part of it that is taken back first.
_FILES = {
    "cgroup2": (("memory.max", "memory.high"), "memory.current", "inactive_file"),
    "cgroup": (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
}


class MemoryLimits:
    """Those that apply to the process now; it may end afterwards."""

    def __init__(self, pid: int) -> None:
        self._groups = list(_groups(pid))

    def left(self) -> int:
        """In bytes: of the tightest limit."""
        found = [_left_of_machine()]
        for version, folder in self._groups:
            with suppress(OSError, ValueError):  # the group is gone
                found += _left_of_group(version, folder)
        return min(found)


def _left_of_machine() -> int:
    match = _AVAILABLE.search(Path("/proc/meminfo").read_text())
    return int(match[1]) << 10 if match else 0


def _left_of_group(version: str, folder: Path) -> Iterator[int]:
    limits, used_file, idle_name = _FILES[version]
    statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    used = int((folder / used_file).read_text()) - int(statistics.get(idle_name, 0))
    for name in limits:
        limit = (folder / name).read_text().strip()
        if limit != "max":
            yield int(limit) - used


def _groups(pid: int) -> Iterator[tuple[str, Path]]:
    """The control groups of a process that limit memory: version and folder, with all parents."""
    paths = {}
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        for controllers, path in (line.split(":", 2)[1:] for line in lines):
            if not controllers or "memory" in controllers.split(","):
                paths["cgroup" if controllers else "cgroup2"] = path
    for version, root, mount in _mounts():
        if version in paths:
            below = Path(paths[version])
            folder = Path(mount) / below.relative_to(root if below.is_relative_to(root) else "/")
            for each in (folder, *folder.parents):
                if (each / _FILES[version][1]).exists():
                    yield version, each
                if each == Path(mount):
                    break


def _mounts() -> Iterator[tuple[str, str, str]]:
    """Version, root and place of each mounted hierarchy that may limit memory."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        match = _MOUNT.match(line)
        if match is None:
            continue
        root, mount, version, options = match.groups()
        if version == "cgroup2" or "memory" in options.split(","):
            yield version, root, mount
