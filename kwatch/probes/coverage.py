# SPDX-License-Identifier: Apache-2.0
"""What of a process's heap is seen: probes its allocators as their files become known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from kwatch.probes.attach import Attacher, ProcessGone
from kwatch.probes.finder import Allocator, AllocatorFinder, FileKey

#: A command is hooked before it runs; system-wide, a file that is hooked stays so for all.
_CURE = "launch it (kwatch -- COMMAND), or trace every process (kwatch --heap)"


class MappedFile(NamedTuple):
    """A file that a process runs code of. `path` opens it, `shown` is its name for people."""

    key: FileKey
    path: str
    shown: str


@dataclass(slots=True)
class Coverage:
    """The probes of one process, or of all. `refused`: functions and why they are not probed.

    `late`: what is probed from now on has run before. Probes outlive an exec, so a file that the
    old image had mapped too is not late.
    """

    pid: int
    late: bool = False
    refused: dict[str, str] = field(default_factory=dict)
    ended_first: bool = False
    missed_beginning: bool = False
    _paths: dict[Allocator, str] = field(default_factory=dict)
    _done: set[Allocator] = field(default_factory=set)
    _image: set[Allocator] = field(default_factory=set)

    @property
    def allocators(self) -> list[Allocator]:
        return list(self._paths)

    @property
    def gap(self) -> str:
        """Why some of the heap may not have been seen; empty if all was."""
        if self.ended_first:
            return "it ended before its allocator was hooked; to see all of it, " + _CURE
        if not self._image:
            return "no allocator was found in the process"
        if self.refused:
            return "not hooked: " + ", ".join(sorted(self.refused))
        if self.missed_beginning:
            return (
                "its first moments, before its allocator was hooked, went unseen; to see all of "
                "it, " + _CURE
            )
        return ""

    def forget_image(self) -> None:
        """An exec: the files of the new image are still to come."""
        self._image.clear()
        self.missed_beginning = self.ended_first = False

    def learn(self, file: MappedFile, finder: AllocatorFinder) -> None:
        """Looks at a file. One that goes by two identities, as on overlayfs, is still one."""
        allocator = finder.find(file.key, file.path, file.shown)
        if allocator is not None:
            self._paths.setdefault(allocator, file.path)
            self._image.add(allocator)

    def pending(self) -> Iterator[tuple[Allocator, str]]:
        """Allocators that are not probed yet, and the path that opens each."""
        for allocator, path in self._paths.items():
            if allocator not in self._done:
                self._done.add(allocator)
                self.missed_beginning |= self.late
                yield allocator, path


class HeapProbes:
    """Finds and attaches. `prefixes` are the user's --alloc-prefix."""

    def __init__(self, attacher: Attacher, prefixes: tuple[str, ...]) -> None:
        self._attacher = attacher
        self._finder = AllocatorFinder(prefixes)

    @property
    def unmatched(self) -> list[str]:
        """The prefixes of which no file so far has had the functions."""
        return [p for p in self._finder.prefixes if p not in self._finder.matched]

    def probe(self, coverage: Coverage, files: Iterable[MappedFile]) -> list[str]:
        """Probes what these files add; says for each allocator what was hooked.

        A process that has gone meanwhile is no error: its exit is on the control ring.
        """
        for file in files:
            coverage.learn(file, self._finder)
        hooked = []
        for allocator, path in coverage.pending():
            try:
                attached = self._attacher.attach(coverage.pid, path, allocator)
            except ProcessGone:
                coverage.ended_first = True
                break
            coverage.refused |= attached.refused
            hooked.append(f"{len(attached.probes)} functions of {allocator.path}")
        return hooked
