# SPDX-License-Identifier: Apache-2.0
"""Descriptors with what they refer to, as strace's -y and -yy show them.

    descriptors = Descriptors(source, details=False)
    for call in descriptors.follow(calls):
        descriptors.argument(3)     # '3</etc/passwd>', while `call` is shown

It is fed all calls in order, and keeps what each descriptor of each process refers to. What it
cannot know from the calls it asks of a `Source`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from kwatch.descriptors.changing import CHANGING
from kwatch.descriptors.endpoints import endpoints, inode_of
from kwatch.descriptors.file import AT_FDCWD, CLOSED, File, Socket
from kwatch.descriptors.opening import OPENING
from kwatch.descriptors.source import Source
from kwatch.descriptors.tables import Tables
from kwatch.model.traced_call import Moment, TracedCall
from kwatch.syscalls.decode import text

#: Calls that must be traced for this, beside those that are shown.
FOLLOWED = frozenset(OPENING) | frozenset(CHANGING)

_EBADF = 9
_DELETED = " (deleted)"


class Open(NamedTuple):
    """An open descriptor: `text` as /proc/PID/fd/N reads; whether an exec leaves it open."""

    text: str
    is_kept: bool


class Descriptors:
    """`details`: -yy, with protocols and addresses of sockets, and the numbers of devices."""

    def __init__(self, source: Source, details: bool) -> None:
        self._source = source
        self._details = details
        self._tables = Tables(source)
        self._call: TracedCall | None = None

    def seed(self, pid: int, found: Mapping[int, Open]) -> None:
        """The descriptors of a process before its first call, with AT_FDCWD."""
        self._tables.enter(pid)
        for fd, each in found.items():
            self._tables.open(fd, self._file(each.text), each.is_kept)

    def follow(self, calls: Iterable[TracedCall]) -> Iterator[TracedCall]:
        """The same calls. Each may be shown until the next one is taken."""
        tables = self._tables
        for call in calls:
            self._call = call
            tables.enter(call.pid)
            if call.moment is not Moment.RETURNED:
                yield call
                if call.moment is Moment.ENDED and call.tid == call.pid:
                    tables.end(call.pid)
                continue
            opening = OPENING.get(call.name)
            if opening is not None and call.result >= 0:
                opening(tables, call)
            yield call
            changing = CHANGING.get(call.name)
            if changing is not None:
                changing(tables, call)

    def argument(self, fd: int) -> str:
        """A descriptor as it was when the call began."""
        tables = self._tables
        if fd in tables.before:
            file = tables.before[fd]
            return self._with(fd, file) if file is not None else str(fd)
        file = tables.current.files.get(fd)
        if file is CLOSED and self._is_open_after_all():
            file = None
        return self._with(fd, file if file is not None else self._find(fd))

    def result(self, fd: int) -> str:
        """A descriptor as the call has left it."""
        tables = self._tables
        file = tables.current.files.get(fd)
        if fd not in tables.before:  # opened by a call that is not followed
            file = None
        return self._with(fd, file if file is not None else self._find(fd, is_new=True))

    def _is_open_after_all(self) -> bool:
        """Whether a call has used a closed descriptor: what has opened it was not followed."""
        return self._call is not None and self._call.result != -_EBADF

    def _with(self, fd: int, file: File | None) -> str:
        name = "AT_FDCWD" if fd == AT_FDCWD else str(fd)
        if file is None:
            return name
        shown = file.shown
        return f"{name}{shown if shown is not None else self._shown(fd, file)}"

    def _find(self, fd: int, is_new: bool = False) -> File | None:
        found = self._asked(fd, is_new)
        if found is None:
            return None
        file = self._tables.current.files[fd] = self._file(found)
        return file

    def _asked(self, fd: int, is_new: bool = False) -> str | None:
        call = self._call
        assert call is not None
        at = call.time_ns + (call.duration_ns or 0) * is_new
        return self._source.descriptor(call.pid, fd, at)

    def _file(self, found: str) -> File:
        if found.startswith("/"):
            return self._tables.paths.file(found)
        return File(found, socket=Socket() if found.startswith("socket:[") else None)

    def _shown(self, fd: int, file: File) -> str:
        """Keeps the text if it will not change."""
        if file.text is None:
            is_new = fd in self._tables.before
            found = self._asked(fd, is_new)
            if found is None or not found.startswith(file.begins):
                return self._addresses(fd, file) if self._details and file.socket else ""
            file.text = found
        if self._details:
            if file.socket is not None:
                return self._addresses(fd, file)
            if file.pid:
                file.shown = f"<pid:{file.pid}>"
                return file.shown
            if file.text.startswith("/dev/"):
                file.shown = self._device(file.text)
                return file.shown
        file.shown = _quoted(file.text)
        return file.shown

    def _device(self, path: str) -> str:
        call = self._call
        assert call is not None
        found = self._source.device(call.pid, path)
        return _quoted(path, f"<{found}>" if found else "")

    def _addresses(self, fd: int, file: File) -> str:
        """`<TCP:[127.0.0.1:80]>`, `<TCP:[1234]>` without addresses; nothing if all is unknown."""
        state, call = file.socket, self._call
        assert state is not None
        assert call is not None
        inode = inode_of(file)
        known = endpoints(state, inode, self._source) if state.is_named else None
        if known is not None:
            peer = f"->{known.peer}" * bool(known.peer)
            path = f",{known.path}" * bool(known.path)
            file.shown = f"<{known.protocol}:[{known.local}{peer}{path}]>"
            return file.shown
        if not inode:
            return ""
        if not state.protocol and state.is_named:
            state.protocol = self._source.protocol(call.pid, fd) or ""
        shown = f"<{state.protocol or 'socket'}:[{inode}]>"
        if not state.is_named:
            file.shown = shown
        return shown


def _quoted(path: str, behind: str = "") -> str:
    shown, end = (path[: -len(_DELETED)], "(deleted)") if path.endswith(_DELETED) else (path, "")
    escaped = text.escaped(shown.encode(errors="surrogateescape"))
    if "<" in escaped or ">" in escaped:
        escaped = escaped.replace("<", "\\74").replace(">", "\\76")
    return f"<{escaped}{behind}>{end}"
