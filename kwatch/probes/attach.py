# SPDX-License-Identifier: Apache-2.0
"""Attaches the heap programs to an allocator in a process, by uprobe links or perf events."""

from __future__ import annotations

import errno
import os
import struct
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple

from kwatch.errors import KwatchError
from kwatch.kernel import bpf, perf
from kwatch.kernel.perf import EVERY_PROCESS
from kwatch.probes.finder import Allocator, Probe
from kwatch.programs.loader import Programs
from kwatch.wire.maps import COOKIE_FILE_SHIFT, MAX_PROBED_FILES

_CLOSERS = 32


#: `return`: a uretprobe; `exit`: at a ret instruction of a function that must not have one.
Kind = Literal["entry", "return", "exit"]
_ORDER: tuple[Kind, ...] = ("return", "exit", "entry")


class _Place(NamedTuple):
    """`cookie`: of an exit, 1 if the result is in the place of the first argument."""

    probe: Probe
    offset: int
    cookie: int


def _places(allocator: Allocator, kind: Kind, file: int) -> list[_Place]:
    cookies = {probe: probe.cookie | file << COOKIE_FILE_SHIFT for probe in allocator.probes}
    if kind == "exit":
        return [
            _Place(probe, each.offset, int(each.result_in_argument))
            for probe in cookies
            for each in probe.exits
        ]
    probes = [p for p in allocator.probes if kind == "entry" or _is_hijacked(p)]
    return [_Place(probe, probe.offset, cookies[probe]) for probe in probes]


def _is_hijacked(probe: Probe) -> bool:
    return probe.function.returns and not probe.exits


class ProcessGone(Exception):
    """The process ended while kwatch attached to it: normal, not an error.

    When kwatch attaches to every process, it is the one through which the file was opened.
    """


@dataclass(frozen=True, slots=True)
class Attached:
    """The probed functions of an allocator, and those refused, with the reason.

    `file`: the number by which the BPF programs note that a function was called; 0 if they do not.
    """

    probes: list[str]
    refused: dict[str, str]
    file: int = 0


class Attacher:
    """Holds every probe. Closing it, or the end of this process in any way, removes them all."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._descriptors: defaultdict[int, list[int]] = defaultdict(list)
        self._closers = ThreadPoolExecutor(_CLOSERS, thread_name_prefix="kwatch-detach")
        self._files = 0
        self._open = self._open_links if programs.attach_methods.uprobe_links else self._open_events

    @property
    def reads_all_registers(self) -> bool:
        """Whether cookies can tell the BPF programs where the arguments are."""
        return self._programs.attach_methods.uprobe_links

    def attach(self, pid: int, path: str, allocator: Allocator) -> Attached:
        """Probes an allocator in a process (EVERY_PROCESS: in all); `path` opens its file.

        Returns are probed before entries, so that each entry that is seen has a return that is.
        Raises ProcessGone, with nothing attached. A function that the kernel refuses to probe is
        reported as refused.
        """
        refused = dict(allocator.refused)
        opened: list[int] = []
        file = self._next_file()
        try:
            for kind in _ORDER:
                self._attach(pid, path, kind, _places(allocator, kind, file), opened, refused)
        except (ProcessGone, KwatchError):
            self._close(opened)
            raise
        self._descriptors[pid] += opened
        return Attached([name for name in allocator.names if name not in refused], refused, file)

    def _next_file(self) -> int:
        if not self._programs.attach_methods.uprobe_links or self._files + 1 >= MAX_PROBED_FILES:
            return 0  # without cookies, or more files than are told apart
        self._files += 1
        return self._files

    def was_called(self, attached: Attached) -> bool:
        """Whether a target has called one of the functions; also true if that is not known."""
        if not attached.file:
            return True
        return self._programs.maps["called_files"].get(struct.pack("I", attached.file)) != b"\0"

    def _attach(
        self,
        pid: int,
        path: str,
        kind: Kind,
        places: list[_Place],
        opened: list[int],
        refused: dict[str, str],
    ) -> None:
        """One refused place fails all that are opened with it: they are then opened one by one."""
        wanted = [place for place in places if place.probe.name not in refused]
        try:
            opened += self._open(pid, path, kind, wanted)
        except OSError as error:
            _check_gone(error, pid, path)
            if len(wanted) == 1:
                refused[wanted[0].probe.name] = error.strerror or str(error)
                return
            for place in wanted:
                self._attach(pid, path, kind, [place], opened, refused)

    def _open_links(self, pid: int, path: str, kind: Kind, places: list[_Place]) -> list[int]:
        program = self._programs.programs[f"heap_{kind}"]
        flags = bpf.UPROBE_MULTI_RETURN if kind == "return" else 0
        offsets = [place.offset for place in places]
        cookies = [place.cookie for place in places]
        return [bpf.link_uprobes(program, path, offsets, cookies, pid, flags)] if places else []

    def _open_events(self, pid: int, path: str, kind: Kind, places: list[_Place]) -> list[int]:
        descriptors: list[int] = []
        try:
            for place in places:
                name = place.probe.function.signature.name.lower() if kind == "entry" else kind
                program = self._programs.programs[f"heap_{name}"]
                is_return = kind == "return"
                fd = perf.open_uprobe(path, place.offset, pid, program, is_return)
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


def _check_gone(error: OSError, pid: int, path: str) -> None:
    alive = path if pid == EVERY_PROCESS else f"/proc/{pid}/exe"
    gone = error.errno == errno.ENOENT and not os.path.exists(alive)
    if gone or error.errno == errno.ESRCH:
        raise ProcessGone(pid) from error
    if error.errno in (errno.EPERM, errno.EACCES):
        raise KwatchError(
            f"the kernel forbids probing process {pid}: {error.strerror}",
            "run kwatch as root, outside containers; see `kwatch doctor`",
        ) from error
