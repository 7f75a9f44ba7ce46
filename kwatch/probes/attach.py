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
from kwatch.procfs.served_files import Place, ServedFile
from kwatch.programs.loader import Programs
from kwatch.wire.maps import COOKIE_FILE_SHIFT, MAX_PROBED_FILES

_CLOSERS = 32

#: What opens the file of an allocator: a path, or one whose file system may not answer.
File = str | ServedFile


#: `return`: a uretprobe, or a session at entry and return; `exit`: at a ret instruction of a
#: function that must not have one.
Kind = Literal["entry", "return", "exit"]
_ORDER: tuple[Kind, ...] = ("return", "exit", "entry")
_ORDER_OF_SESSIONS: tuple[Kind, ...] = ("exit", "entry", "return")


class _Site(NamedTuple):
    """`cookie`: of an exit, 1 if the result is in the place of the first argument."""

    probe: Probe
    offset: int
    cookie: int


def _sites(allocator: Allocator, kind: Kind, number: int, sessions: bool) -> list[_Site]:
    """`sessions`: what has a `return` needs no `entry`."""
    cookies = {probe: probe.cookie | number << COOKIE_FILE_SHIFT for probe in allocator.probes}
    if kind == "exit":  # a function that jumps to another one has the other one's
        found = {
            each.offset: _Site(probe, each.offset, int(each.result_in_argument))
            for probe in cookies
            for each in probe.exits
        }
        return list(found.values())
    probes = list(allocator.probes)
    if kind == "return" or sessions:
        probes = [probe for probe in probes if _is_hijacked(probe) == (kind == "return")]
    probes.sort(key=lambda probe: probe.function.turn)
    return [_Site(probe, probe.offset, cookies[probe]) for probe in probes]


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
    def spares_returns(self) -> bool:
        """Whether the BPF programs leave the returns alone of threads that dispatch their calls."""
        return self._programs.attach_methods.uprobe_sessions

    @property
    def reads_all_registers(self) -> bool:
        """Whether cookies can tell the BPF programs where the arguments are."""
        return self._programs.attach_methods.uprobe_links

    def attach(self, pid: int, file: File, allocator: Allocator) -> Attached:
        """Probes an allocator in a process (EVERY_PROCESS: in all); a path opens its file.

        The returns of allocations are probed before or with their entries, so that each entry that
        is seen has a return that is, and frees before allocations: see AllocatorFunction.turn.
        Raises ProcessGone, with nothing attached. A function that the kernel refuses to probe is
        reported as refused.
        """
        refused = dict(allocator.refused)
        opened: list[int] = []
        number = self._next_file()
        try:
            sessions = self._programs.attach_methods.uprobe_sessions
            for kind in _ORDER_OF_SESSIONS if sessions else _ORDER:
                sites = _sites(allocator, kind, number, sessions)
                self._attach(pid, file, kind, sites, opened, refused)
        except (ProcessGone, KwatchError):
            self._close(opened)
            raise
        self._descriptors[pid] += opened
        return Attached([name for name in allocator.names if name not in refused], refused, number)

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
                refused[wanted[0].probe.name] = _reason(error)
                return
            for place in wanted:
                self._attach(pid, file, kind, [place], opened, refused)

    def _open_links(self, pid: int, file: File, kind: Kind, places: list[_Site]) -> list[int]:
        program = self._programs.programs[f"heap_{kind}"]
        flags = bpf.UPROBE_MULTI_RETURN if kind == "return" else 0
        if self._programs.attach_methods.uprobe_sessions and kind != "entry":
            flags = bpf.UPROBE_SESSION
        offsets = [place.offset for place in places]
        cookies = [place.cookie for place in places]
        if not places:
            return []
        if isinstance(file, ServedFile):
            return [file.attach("link", program, Place(offsets, cookies, max(pid, 0)), flags)]
        return [bpf.link_uprobes(program, file, offsets, cookies, pid, flags)]

    def _open_events(self, pid: int, file: File, kind: Kind, places: list[_Site]) -> list[int]:
        descriptors: list[int] = []
        try:
            for place in places:
                if isinstance(file, ServedFile):
                    at = Place([place.offset], [0], pid)
                    event = file.attach("event", None, at, int(kind == "return"))
                else:
                    event = perf.open_uprobe(file, place.offset, pid, kind == "return")
                descriptors.append(self._with_program(event, kind, place))
        except OSError:
            self._close(descriptors)
            raise
        return descriptors

    def _with_program(self, event: int, kind: Kind, site: _Site) -> int:
        """Attaches the program to a perf event. Returns the descriptor that keeps both."""
        if not self._programs.attach_methods.event_cookies:
            name = site.probe.function.signature.name.lower() if kind == "entry" else kind
            return perf.with_program(event, self._programs.programs[f"heap_{name}"])
        try:
            return bpf.link_event(self._programs.programs[f"heap_{kind}"], event, site.cookie)
        finally:
            os.close(event)

    def left_child_line(self, parent: str) -> str:
        """A message: the target forks children that are not traced."""
        if not self._programs.attach_methods.uprobe_links:
            return (
                f"kwatch: {parent} forks children, which are not traced: each of them removes a "
                "probe of its parent when it first reaches it; --follow traces them"
            )
        return (
            f"kwatch: {parent} forks children, which are not traced but pay for its probes at each "
            "allocation until their exec: --perf-uprobes takes the probes out of them, --follow "
            "traces them"
        )

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


def _reason(error: OSError) -> str:
    """Why the kernel refuses a place of a file that it probes elsewhere.

    One place has one reference counter for all tracers: alloc_uprobe() in kernel/events/uprobes.c
    returns EINVAL for another one (commit 1cc33161a83d, Linux 4.20).
    """
    if error.errno == errno.EINVAL:
        return "probably another tracer has a probe with a reference counter at the same place"
    return error.strerror or str(error)


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
