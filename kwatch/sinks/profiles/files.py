# SPDX-License-Identifier: Apache-2.0
"""Keeps the newest profile of every process in files, one format each."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace

from kwatch.model.frame import Frame
from kwatch.model.snapshot import HeapProfile, Snapshot, StackTotals
from kwatch.sinks.profiles.unit import Format, ProcessProfile, unit_of
from kwatch.system import stdio
from kwatch.system.atomic_file import create_beside, write_atomically

#: At most this share of the time is spent on rewriting files before the end.
_SHARE = 0.1

#: Ended processes that keep their own profile, and the frames of their stacks. Earlier ones are
#: added up.
_MAX_ENDED = 1000
_MAX_FRAMES = 2_000_000

#: The umask applies, as to every file that a program creates.
_MODE = 0o666

#: Paths below these may name files that are already open.
_OPENED = ("/dev/", "/proc/")

_Identity = tuple[int, float]


class Profiles:
    """A sink that keeps the last profile of each process.

    Regular files are replaced atomically: readers always find a complete file, even if kwatch is
    killed. Pipes and devices are written once, by `close`. Every method may raise OSError with
    the file's name.
    """

    def __init__(self, formats: Mapping[str, Format]) -> None:
        """Formats by path. Fails at once if a file cannot be written."""
        self._files = [(_file(path), made) for path, made in formats.items()]
        self._units: dict[_Identity, ProcessProfile] = {}
        self._ended: deque[tuple[_Identity, int]] = deque()  # with its number of frames
        self._frames = 0
        self._changed = True
        self._next = 0.0

    def write(self, snapshot: Snapshot) -> None:
        if snapshot.profile is None:
            return
        identity = snapshot.process.pid, snapshot.process.start_time
        self._units[identity] = unit_of(snapshot)
        self._changed = True
        if snapshot.process.exited:
            self._keep(identity)

    def flush(self) -> None:
        """Rewrites the regular files, unless that would exceed its share of the time."""
        started = time.monotonic()
        if self._changed and started >= self._next:
            for file, made in self._files:
                if isinstance(file, _Replaced):
                    file.write(made(list(self._units.values())))
            self._changed = False
            ended = time.monotonic()
            self._next = ended + (ended - started) / _SHARE

    def close(self) -> None:
        for file, made in self._files:
            if self._changed or isinstance(file, _Once):
                file.write(made(list(self._units.values())))
        self._changed = False

    def _keep(self, identity: _Identity) -> None:
        """Keeps the profile of an ended process. Adds earlier ones up if there are too many."""
        unit = self._units[identity]
        self._units[identity] = replace(unit, profile=_compact(unit.profile))
        count = sum(len(stack.frames) for stack in unit.profile.stacks)
        self._ended.append((identity, count))
        self._frames += count
        while self._frames > _MAX_FRAMES or len(self._ended) > _MAX_ENDED:
            if len(self._ended) == 1:
                return
            earliest, count = self._ended.popleft()
            self._frames -= count
            others = self._units.pop(_OTHERS, None)
            self._units[_OTHERS] = _together(others, self._units.pop(earliest))


#: The identity of all ended processes that are added up.
_OTHERS: _Identity = (0, 0.0)


def _compact(profile: HeapProfile) -> HeapProfile:
    """`profile` with equal frames shared: most frames are in many stacks."""
    known: dict[Frame, Frame] = {}
    stacks = (
        replace(stack, frames=tuple(known.setdefault(frame, frame) for frame in stack.frames))
        for stack in profile.stacks
    )
    return replace(profile, stacks=tuple(stacks))


def _together(others: ProcessProfile | None, unit: ProcessProfile) -> ProcessProfile:
    stacks = [*(others.profile.stacks if others else ()), *unit.profile.stacks]
    total = StackTotals(
        stack=0,
        alloc_blocks=sum(stack.alloc_blocks for stack in stacks),
        alloc_bytes=sum(stack.alloc_bytes for stack in stacks),
        live_blocks=sum(stack.live_blocks for stack in stacks),
        live_bytes=sum(stack.live_bytes for stack in stacks),
        frames=(Frame(0, "[ended]"),),
    )
    lost = unit.lost + (others.lost if others else 0)
    return replace(
        unit, name="[earlier processes]", pid=0, profile=HeapProfile((total,)), lost=lost
    )


def _file(path: str) -> _Replaced | _Once:
    with _named(path):
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            return _Replaced(path)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        # /dev/stdout may be a regular file; replacing it would take it from its other writers.
        return (
            _Once(path) if not stat.S_ISREG(mode) or path.startswith(_OPENED) else _Replaced(path)
        )


class _Replaced:
    """A regular file, which may not exist yet."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._target = os.path.realpath(path)
        with _named(path):
            fd, trial = create_beside(self._target, _MODE)
            os.close(fd)
            os.unlink(trial)

    def write(self, data: bytes) -> None:
        with _named(self._path):
            write_atomically(self._target, data, _MODE)


class _Once:
    """A pipe, a device, or a file that is already open."""

    def __init__(self, path: str) -> None:
        self._path = path
        with _named(path):
            self._stream = stdio.open_output(path, os.O_APPEND)

    def write(self, data: bytes) -> None:
        with _named(self._path), self._stream:
            self._stream.write(data)


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = path
        raise
