# SPDX-License-Identifier: Apache-2.0
"""Attaches the heap programs to an allocator in a process, by uprobe links or perf events."""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple

from kwatch.errors import KwatchError
from kwatch.kernel import bpf, perf
from kwatch.kernel.perf import EVERY_PROCESS
from kwatch.probes.finder import Allocator, Probe
from kwatch.procfs.served_files import Place, ServedFile
from kwatch.programs.loader import Programs

_CLOSERS = 32

#: What opens the file of an allocator: a path, or one whose file system may not answer.
File = str | ServedFile


#: `return`: a uretprobe; `exit`: at a ret instruction of a function that may throw.
Kind = Literal["entry", "return", "exit"]
_ORDER: tuple[Kind, ...] = ("return", "exit", "entry")


class _Site(NamedTuple):
    probe: Probe
    offset: int


def _places(allocator: Allocator, kind: Kind) -> list[_Site]:
    if kind == "exit":
        return [_Site(probe, at) for probe in allocator.probes for at in probe.exits]
    probes = [p for p in allocator.probes if kind == "entry" or _is_hijacked(p)]
    return [_Site(probe, probe.offset) for probe in probes]


def _is_hijacked(probe: Probe) -> bool:
    return probe.function.returns and not probe.function.throws


class ProcessGone(Exception):
    """The process ended while kwatch attached to it: normal, not an error.

    When kwatch attaches to every process, it is the one through which the file was opened.
    """


@dataclass(frozen=True, slots=True)
class Attached:
    """The probed functions of an allocator, and those refused, with the reason."""

    probes: list[str]
    refused: dict[str, str]


class Attacher:
    """Holds every probe. Closing it, or the end of this process in any way, removes them all."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._descriptors: defaultdict[int, list[int]] = defaultdict(list)
        self._closers = ThreadPoolExecutor(_CLOSERS, thread_name_prefix="kwatch-detach")
        self._open = self._open_links if programs.attach_methods.uprobe_links else self._open_events

    def attach(self, pid: int, file: File, allocator: Allocator) -> Attached:
        """Probes an allocator in a process (EVERY_PROCESS: in all); a path opens its file.

        Returns are probed before entries, so that each entry that is seen has a return that is.
        Raises ProcessGone, with nothing attached. A function that the kernel refuses to probe is
        reported as refused.
        """
        refused = dict(allocator.refused)
        opened: list[int] = []
        try:
            for kind in _ORDER:
                self._attach(pid, file, kind, _places(allocator, kind), opened, refused)
        except (ProcessGone, KwatchError):
            self._close(opened)
            raise
        self._descriptors[pid] += opened
        return Attached([name for name in allocator.names if name not in refused], refused)

    def _attach(
        self,
        pid: int,
        file: File,
        kind: Kind,
        places: list[_Site],
        opened: list[int],
        refused: dict[str, str],
    ) -> None:
        """One refused place fails all that are opened with it: they are then opened one by one."""
        wanted = [place for place in places if place.probe.name not in refused]
        try:
            opened += self._open(pid, file, kind, wanted)
        except OSError as error:
            _check_gone(error, pid, file)
            if len(wanted) == 1:
                refused[wanted[0].probe.name] = error.strerror or str(error)
                return
            for place in wanted:
                self._attach(pid, file, kind, [place], opened, refused)

    def _open_links(self, pid: int, file: File, kind: Kind, places: list[_Site]) -> list[int]:
        program = self._programs.programs[f"heap_{kind}"]
        flags = bpf.UPROBE_MULTI_RETURN if kind == "return" else 0
        offsets = [place.offset for place in places]
        cookies = [place.probe.cookie for place in places]
        if not places:
            return []
        if isinstance(file, ServedFile):
            return [file.attach("link", program, Place(offsets, cookies, max(pid, 0)), flags)]
        return [bpf.link_uprobes(program, file, offsets, cookies, pid, flags)]

    def _open_events(self, pid: int, file: File, kind: Kind, places: list[_Site]) -> list[int]:
        descriptors: list[int] = []
        try:
            for place in places:
                name = place.probe.function.signature.name.lower() if kind == "entry" else kind
                program = self._programs.programs[f"heap_{name}"]
                is_return = kind == "return"
                if isinstance(file, ServedFile):
                    at = Place([place.offset], [0], pid)
                    fd = file.attach("event", program, at, int(is_return))
                else:
                    fd = perf.open_uprobe(file, place.offset, pid, program, is_return)
                descriptors.append(fd)
        except OSError:
            self._close(descriptors)
            raise
        return descriptors

    def _close(self, descriptors: Iterable[int]) -> None:
        """Closes in the background: the kernel waits for a grace period each time."""
        for fd in descriptors:
            self._closers.submit(os.close, fd)

    def detach(self, pid: int) -> None:
        """Removes the probes of a process, in the background; nothing if it has none."""
        self._close(self._descriptors.pop(pid, ()))

    def close(self) -> None:
        """Removes all probes and waits until they are gone."""
        for pid in list(self._descriptors):
            self.detach(pid)
        self._closers.shutdown()


def _check_gone(error: OSError, pid: int, file: File) -> None:
    """Looks at no file: its file system may not answer."""
    alive = _first_path(file) if pid == EVERY_PROCESS else f"/proc/{pid}/exe"
    gone = error.errno == errno.ENOENT and not _is_link(alive)
    if gone or error.errno == errno.ESRCH:
        raise ProcessGone(pid) from error
    if error.errno in (errno.EPERM, errno.EACCES):
        raise KwatchError(
            f"the kernel forbids probing process {pid}: {error.strerror}",
            "run kwatch as root, outside containers; see `kwatch doctor`",
        ) from error


def _first_path(file: File) -> str:
    return file.paths[0] if isinstance(file, ServedFile) else file


def _is_link(path: str) -> bool:
    """Whether a link of /proc leads to a file; other paths are looked up."""
    try:
        return bool(os.readlink(path))
    except OSError:
        return not path.startswith("/proc/") and os.path.exists(path)
