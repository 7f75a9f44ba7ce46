# SPDX-License-Identifier: Apache-2.0
"""Which part of a process's heap is traced: probes its allocators as their files appear."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from kwatch.kernel.inodes import Inode, inode_of
from kwatch.kernel.perf import EVERY_PROCESS
from kwatch.model.options import Returns
from kwatch.probes.attach import Attached, Attacher, ProcessGone
from kwatch.probes.finder import Allocator, AllocatorFinder, FileKey
from kwatch.procfs.served_files import ServedFile

#: A launched command is probed before it runs.
LAUNCH_IT = "launch that program itself (kwatch -- COMMAND)"
#: System-wide, a probed file stays probed.
_TRACE_ALL = "trace every process (kwatch --heap)"

DISPATCHING = (
    "it uses Syscall User Dispatch, so kwatch leaves its threads' returns alone and no longer sees "
    "all of its allocations; attach to it now, or use --returns ret, to see them"
)
_GO = ": Go has its own, which a heap profile of runtime/pprof shows"


class MappedFile(NamedTuple):
    """A file whose code a process has mapped. `path` opens it, `shown` is its name in messages.

    `served`: the file itself if `path` opens a copy, because its file system may not answer.
    `refused`: why there is no copy.
    """

    key: FileKey
    path: str
    shown: str
    served: ServedFile | None = None
    refused: str = ""


class _File(NamedTuple):
    """The file of an allocator, to be probed once.

    In one process, `inode` is None: a file with two identities, as on overlayfs, is one file. Among
    all processes, equal files of two containers are two.
    """

    allocator: Allocator
    inode: Inode | None


class ProbedFile(NamedTuple):
    """`number`: COOKIE_FILE; 0 if events do not tell. `since_ns`: when all of it was probed."""

    number: int
    allocator: Allocator
    since_ns: int


class _Probed(NamedTuple):
    """Times are on the clock of the events. `since_ns`: when a late file was probed; 0: before it
    ran. `attached_ns`: when all functions of the file were probed.
    """

    attached: Attached
    since_ns: int
    attached_ns: int


@dataclass(slots=True)
class Coverage:
    """The probes of one process, or of all. `refused`: functions and why they are not probed.

    `unsafe`: why the process must not be probed, see `kwatch.probes.hazards`; empty if it may be.
    `told`: the one of these that was announced. `copied`: files of whose code it runs a copy.

    `late`: files that are probed from now on have run before, since `mapped_ns` if it is known.
    Probes survive an exec, so a file that the old program had mapped, too, need not be late.
    `dispatches`: threads of it use Syscall User Dispatch, so their returns are left alone.
    `is_go`: some file is a Go program, which allocates for itself.
    `is_forked`: the process runs the program of its parent, by which it was forked.
    `returns`: how returns are caught there, if it is not as the user said for all.
    """

    pid: int
    late: bool = False
    mapped_ns: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    unsafe: str = ""
    copied: set[str] = field(default_factory=set)
    told: str = ""
    ended_first: bool = False
    missed_beginning: bool = False
    is_go: bool = False
    is_forked: bool = False
    dispatches: bool = False
    returns: Returns | None = None
    _probed: dict[_File, _Probed] = field(default_factory=dict)
    _allocators: set[Allocator] = field(default_factory=set)

    @property
    def probed(self) -> list[str]:
        """For messages: how many functions of each file are probed."""
        return [_line(file, probed.attached) for file, probed in self._probed.items()]

    @property
    def nothing_found(self) -> str:
        """Why the heap is not traced; empty if some of it is."""
        if self._allocators:
            return ""
        return "no allocator was found in the process" + _GO * self.is_go

    @property
    def own_gap(self) -> str:
        """Why a part of the process's heap may be missing; empty if nothing is."""
        if self.unsafe:
            return f"its heap is not traced: {self.unsafe}"
        if self.copied:
            files = ", ".join(sorted(self.copied))
            return f"it runs a copy of code of {files}, in which kwatch's probes do not act"
        if self.dispatches:
            return DISPATCHING
        if self.refused:
            return "these functions could not be probed: " + ", ".join(sorted(self.refused))
        if self.ended_first:
            return f"it ended before its allocator was probed; {self._cure}"
        if self.missed_beginning:
            missed = "allocations before its allocator was probed were not recorded"
            return f"{missed}; {self._cure}"
        return ""

    @property
    def _cure(self) -> str:
        """A child that runs its parent's program cannot be launched by itself."""
        cure = _TRACE_ALL if self.is_forked else f"{LAUNCH_IT}, or {_TRACE_ALL}"
        return f"to trace all of it, {cure}"

    def mapped_at(self, time_ns: int) -> None:
        """The next files were mapped at that time and have run since."""
        self.late, self.mapped_ns = True, time_ns

    def forget_program(self) -> None:
        """Called at an exec, before the files of the new program."""
        self._allocators.clear()
        self.missed_beginning = self.ended_first = False
        self.is_go = self.is_forked = self.dispatches = False
        self.unsafe = ""
        self.copied.clear()

    def abandon(self, why: str) -> None:
        """The probes have been removed, and no others may be set."""
        self.unsafe = self.told = why
        self._probed.clear()

    def attached(self) -> Iterator[tuple[str, Attached]]:
        """Each probed file as messages show it, with its probes."""
        for file, probed in self._probed.items():
            yield file.allocator.shown, probed.attached

    def files(self) -> Iterator[ProbedFile]:
        for file, probed in self._probed.items():
            yield ProbedFile(probed.attached.file, file.allocator, probed.attached_ns)

    def learn(self, mapped: MappedFile, finder: AllocatorFinder, returns: Returns) -> _File | None:
        """Examines a file; None if it has no allocator."""
        allocator = finder.find(mapped.key, mapped.path, mapped.shown, self.returns or returns)
        if allocator is None:
            self.is_go |= finder.is_go(mapped.key)
            return None
        self._allocators.add(allocator)
        try:
            return _File(allocator, inode_of(mapped.path) if self.pid == EVERY_PROCESS else None)
        except OSError:
            return None  # the process has gone

    def record(self, file: _File, attached: Attached) -> str:
        """Records the probes of a file; returns a line for messages."""
        self.refused |= attached.refused
        now = time.monotonic_ns()
        self._probed[file] = _Probed(attached, now if self.late else 0, now)
        return _line(file, attached)

    def is_probed(self, file: _File) -> bool:
        return file in self._probed

    def note(self, file: _File, probes: Coverage) -> None:
        """Adds to the process what is missing of the file: refused functions, a late start."""
        probed = probes._probed[file]
        self.refused |= probed.attached.refused
        self.missed_beginning |= probed.since_ns > self.mapped_ns


def _line(file: _File, attached: Attached) -> str:
    return f"{len(attached.probes)} functions of {file.allocator.shown}"


class Hazards(NamedTuple):
    """`of_breakpoints`: why a process that maps these files must not be probed at all.

    `of_returns`: why it must not have return probes. Both are empty if it may.
    """

    of_breakpoints: Callable[[int, Iterable[str]], str] = lambda pid, mapped: ""
    of_returns: Callable[[int], str] = lambda pid: ""


class HeapProbes:
    """Finds and attaches. `prefixes` are the user's --alloc-prefix, `returns` is --returns."""

    def __init__(
        self,
        attacher: Attacher,
        prefixes: tuple[str, ...],
        returns: Returns = Returns.AUTO,
        hazards: Hazards = Hazards(),  # noqa: B008 (immutable)
        operators: bool = False,
    ) -> None:
        """`operators`: see AllocatorFinder."""
        self._attacher = attacher
        self._returns = returns
        self._hazards = hazards
        self._finder = AllocatorFinder(prefixes, attacher.reads_all_registers, operators)

    @property
    def unmatched(self) -> list[str]:
        """The prefixes that no file has matched so far."""
        return [p for p in self._finder.prefixes if p not in self._finder.matched]

    def uncalled(self, coverage: Coverage) -> list[tuple[str, int]]:
        """The files whose probed functions were not called so far, and how many they are."""
        return [
            (shown, len(attached.probes))
            for shown, attached in coverage.attached()
            if not self._attacher.was_called(attached)
        ]

    def probe(
        self, coverage: Coverage, files: Iterable[MappedFile], own: Coverage | None = None
    ) -> list[str]:
        """Probes new allocators among these files; returns a line for each.

        `own`: the coverage of the process that has mapped them, if `coverage` is that of all. A
        process that has ended meanwhile is no error: its exit is in the control ring.
        """
        own = own or coverage
        lines = []
        files = list(files)
        for mapped in files:
            if mapped.refused:
                own.refused[mapped.shown] = mapped.refused
                continue
            file = coverage.learn(mapped, self._finder, self._returns)
            if file is None:
                continue
            if not coverage.is_probed(file):
                if self._is_unsafe(coverage, files):
                    continue
                file = self._with_safe_returns(coverage, mapped, file)
                try:
                    place = mapped.served or mapped.path
                    attached = self._attacher.attach(coverage.pid, place, file.allocator)
                except ProcessGone:  # another one may lead to the file, later
                    own.ended_first = own.pid != EVERY_PROCESS
                    continue
                lines.append(coverage.record(file, attached))
            own.note(file, coverage)
        return lines

    def _is_unsafe(self, coverage: Coverage, files: Iterable[MappedFile]) -> bool:
        """Whether new probes would harm the process. All processes are checked by the caller."""
        if not coverage.unsafe and coverage.pid != EVERY_PROCESS:
            shown = [file.shown for file in files]
            coverage.unsafe = self._hazards.of_breakpoints(coverage.pid, shown)
        return bool(coverage.unsafe)

    def _with_safe_returns(self, coverage: Coverage, mapped: MappedFile, file: _File) -> _File:
        """The file, with its ret instructions to probe where return probes would harm."""
        if coverage.pid == EVERY_PROCESS or (coverage.returns or self._returns) is Returns.RET:
            return file
        if not self._hazards.of_returns(coverage.pid):
            return file
        coverage.returns = Returns.RET
        return coverage.learn(mapped, self._finder, self._returns) or file
