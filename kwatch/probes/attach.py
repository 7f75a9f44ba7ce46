# SPDX-License-Identifier: Apache-2.0
"""Attaches the heap programs to an allocator in one process, by uprobe links or perf events."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from kwatch.errors import KwatchError
from kwatch.kernel import bpf, perf
from kwatch.kernel.loader import Programs
from kwatch.probes.finder import Allocator, Probe

EVERY_PROCESS = 0
_CLOSERS = 32


#: `return` is a uretprobe; `exit` a ret instruction of a function that an exception may leave.
Kind = Literal["entry", "return", "exit"]
_ORDER: tuple[Kind, ...] = ("return", "exit", "entry")


class _Place(NamedTuple):
    probe: Probe
    offset: int


def _places(allocator: Allocator, kind: Kind) -> list[_Place]:
    if kind == "exit":
        return [_Place(probe, at) for probe in allocator.probes for at in probe.exits]
    probes = [p for p in allocator.probes if kind == "entry" or _is_hijacked(p)]
    return [_Place(probe, probe.offset) for probe in probes]


def _is_hijacked(probe: Probe) -> bool:
    return probe.function.returns and not probe.function.throws


class ProcessGone(Exception):
    """The process ended while it was being attached: normal, not an error."""


@dataclass(slots=True)
class Attached:
    """What was attached to one process, and what could not be, with the reason."""

    descriptors: list[int] = field(default_factory=list)
    probes: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


class Attacher:
    """Holds every probe. Closing it, or the end of this process in any way, removes them all."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._attached: dict[int, Attached] = {}
        self._closers = ThreadPoolExecutor(_CLOSERS, thread_name_prefix="kwatch-detach")
        self._open = self._open_links if programs.ways.uprobe_links else self._open_events

    def attach(self, pid: int, path: str, allocator: Allocator) -> Attached:
        """Probes an allocator in a process (EVERY_PROCESS: in all); `path` opens its file.

        Returns are armed before entries, so that no entry is seen whose return is not.
        Raises ProcessGone; a function that the kernel refuses to probe is reported as refused.
        """
        attached = self._attached.setdefault(pid, Attached())
        attached.refused |= dict(allocator.refused)
        for kind in _ORDER:
            places = _places(allocator, kind)
            try:
                attached.descriptors += self._open(pid, path, kind, places)
            except OSError as error:
                _check_gone(error, pid)
                self._attach_singly(attached, pid, path, kind, places)
        attached.probes += [name for name in allocator.names if name not in attached.refused]
        return attached

    def _attach_singly(
        self, attached: Attached, pid: int, path: str, kind: Kind, places: list[_Place]
    ) -> None:
        """One refused place fails all that are opened with it: find out which."""
        for place in places:
            if place.probe.name in attached.refused:
                continue
            try:
                attached.descriptors += self._open(pid, path, kind, [place])
            except OSError as error:
                _check_gone(error, pid)
                attached.refused[place.probe.name] = error.strerror or str(error)

    def _open_links(self, pid: int, path: str, kind: Kind, places: list[_Place]) -> list[int]:
        program = self._programs.programs[f"heap_{kind}"]
        flags = bpf.UPROBE_MULTI_RETURN if kind == "return" else 0
        offsets = [place.offset for place in places]
        cookies = [place.probe.cookie for place in places]
        return [bpf.link_uprobes(program, path, offsets, cookies, pid, flags)] if places else []

    def _open_events(self, pid: int, path: str, kind: Kind, places: list[_Place]) -> list[int]:
        descriptors: list[int] = []
        target = pid if pid != EVERY_PROCESS else -1
        try:
            for place in places:
                name = place.probe.function.shape.name.lower() if kind == "entry" else kind
                program = self._programs.programs[f"heap_{name}"]
                is_return = kind == "return"
                fd = perf.open_uprobe(path, place.offset, target, program, is_return)
                descriptors.append(fd)
        except OSError:
            for fd in descriptors:
                self._closers.submit(os.close, fd)
            raise
        return descriptors

    def detach(self, pid: int) -> None:
        """Removes the probes of a process, in the background; nothing if it has none.

        The kernel waits for a grace period at each descriptor, which threads can share.
        """
        attached = self._attached.pop(pid, None)
        for fd in attached.descriptors if attached is not None else ():
            self._closers.submit(os.close, fd)

    def close(self) -> None:
        """Removes all probes and waits until they are gone."""
        for pid in list(self._attached):
            self.detach(pid)
        self._closers.shutdown()


def _check_gone(error: OSError, pid: int) -> None:
    gone = error.errno == errno.ENOENT and not os.path.exists(f"/proc/{pid}/exe")
    if pid != EVERY_PROCESS and (gone or error.errno == errno.ESRCH):
        raise ProcessGone(pid) from error
    if error.errno in (errno.EPERM, errno.EACCES):
        raise KwatchError(
            f"the kernel forbids probing process {pid}: {error.strerror}",
            "run kwatch as root, outside containers; see `kwatch doctor`",
        ) from error
