# SPDX-License-Identifier: Apache-2.0
"""Attaches the heap programs to an allocator in one process, by uprobe links or perf events."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from kwatch.errors import KwatchError
from kwatch.kernel import bpf, perf
from kwatch.kernel.loader import Programs
from kwatch.probes.finder import Allocator, Probe

EVERY_PROCESS = 0
_CLOSERS = 32
_GONE = (errno.ESRCH, errno.ENOENT)


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
        self._open = self._open_links if programs.uprobe_links else self._open_events

    def attach(self, pid: int, path: str, allocator: Allocator) -> Attached:
        """Probes an allocator in a process (EVERY_PROCESS: in all); `path` opens its file.

        Returns are armed before entries, so that no entry is seen whose return is not.
        Raises ProcessGone; a function that the kernel refuses to probe is reported as refused.
        """
        attached = self._attached.setdefault(pid, Attached())
        returning = [probe for probe in allocator.probes if probe.function.returns]
        for probes, is_return in ((returning, True), (list(allocator.probes), False)):
            try:
                attached.descriptors += self._open(pid, path, probes, is_return)
            except OSError as error:
                _check_gone(error, pid)
                self._attach_singly(attached, pid, path, probes, is_return)
        attached.probes += [name for name in allocator.names if name not in attached.refused]
        return attached

    def guard_unwinding(self, pid: int, path: str, allocator: Allocator) -> None:
        """Lets exceptions pass through probed functions. Raises ProcessGone."""
        program = self._programs.deferred_program("heap_unwind")
        offsets = allocator.unwinders
        attached = self._attached.setdefault(pid, Attached())
        try:
            if self._programs.uprobe_links:
                cookies = [0] * len(offsets)
                attached.descriptors.append(
                    bpf.link_uprobes(program, path, offsets, cookies, pid, 0)
                )
                return
            for offset in offsets:
                fd = perf.open_uprobe(path, offset, pid or -1, program, False)
                attached.descriptors.append(fd)
        except OSError as error:
            _check_gone(error, pid)
            raise KwatchError(
                f"the unwinder in {allocator.path} cannot be probed: {error.strerror}",
                "without that, exceptions through operator new would end the program",
            ) from error

    def _attach_singly(
        self, attached: Attached, pid: int, path: str, probes: Iterable[Probe], is_return: bool
    ) -> None:
        """One refused place fails all that are opened with it: find out which."""
        for probe in probes:
            if probe.name in attached.refused:
                continue
            try:
                attached.descriptors += self._open(pid, path, [probe], is_return)
            except OSError as error:
                _check_gone(error, pid)
                attached.refused[probe.name] = error.strerror or str(error)

    def _open_links(self, pid: int, path: str, probes: list[Probe], is_return: bool) -> list[int]:
        program = self._programs.programs["heap_return" if is_return else "heap_entry"]
        flags = bpf.UPROBE_MULTI_RETURN if is_return else 0
        offsets = [probe.offset for probe in probes]
        cookies = [probe.cookie for probe in probes]
        return [bpf.link_uprobes(program, path, offsets, cookies, pid, flags)] if probes else []

    def _open_events(self, pid: int, path: str, probes: list[Probe], is_return: bool) -> list[int]:
        descriptors: list[int] = []
        target = pid if pid != EVERY_PROCESS else -1
        try:
            for probe in probes:
                name = "return" if is_return else probe.function.shape.name.lower()
                program = self._programs.programs[f"heap_{name}"]
                fd = perf.open_uprobe(path, probe.offset, target, program, is_return)
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
    if error.errno in _GONE and not (pid and os.path.exists(f"/proc/{pid}/exe")):
        raise ProcessGone(pid) from error
    if error.errno == errno.EMFILE:
        raise KwatchError(
            "too many open files: each traced process takes a few", "raise `ulimit -n`"
        ) from error
    if error.errno in (errno.EPERM, errno.EACCES):
        raise KwatchError(
            f"the kernel forbids probing process {pid}: {error.strerror}",
            "run kwatch as root, outside containers; see `kwatch doctor`",
        ) from error
