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

from kwatch.descriptors.changes import may_change_any
from kwatch.descriptors.changing import CHANGING
from kwatch.descriptors.endpoints import endpoints, inode_of
from kwatch.descriptors.file import AT_FDCWD, CLOSED, File, Socket
from kwatch.descriptors.opening import OPENING, is_by_path, opened
from kwatch.descriptors.source import Source
from kwatch.descriptors.tables import Tables
from kwatch.model.traced_call import Moment, TracedCall
from kwatch.syscalls.decode import text

#: Calls that must be traced for this, beside those that are shown.
FOLLOWED = frozenset(OPENING) | frozenset(CHANGING)

_EBADF = 9
_MAX_ASKED = 1 << 16
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

    def unknown(self, calls: Iterable[TracedCall]) -> set[tuple[int, int]]:
        """The pids and descriptors in calls to come that the source may be asked for."""
        found: set[tuple[int, int]] = set()
        for call in calls:
            if call.name in OPENING and not is_by_path(call):
                found.update((call.pid, fd) for fd in opened(call))
            table = self._tables.by_pid.get(call.pid)
            files = table.files if table is not None else {}
            words = {AT_FDCWD, *(word for word in call.arguments[:5] if word < _MAX_ASKED)}
            found.update((call.pid, fd) for fd in words if _is_unknown(files.get(fd)))
        return found

    def follow(self, calls: Iterable[TracedCall]) -> Iterator[TracedCall]:
        """The same calls. Each may be shown until the next one is taken."""
        tables = self._tables
        for call in calls:
            self._call = call
            tables.enter(call.pid, call.time_ns + (call.duration_ns or 0))
            if may_change_any(call):
                tables.forget()
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
        tables, call = self._tables, self._call
        assert call is not None
        if fd in tables.arrived:
            return self.result(fd)
        if fd in tables.before:
            file = tables.before[fd]
            return self._with(fd, file) if file is not None else str(fd)
        if tables.current.changed_after(fd, call.time_ns):
            return self._with(fd, None)
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
        return self._with(fd, file if file is not None else self._find(fd, True), is_new=True)

    def _is_open_after_all(self) -> bool:
        """Whether a call has used a closed descriptor: what has opened it was not followed."""
        return self._call is not None and self._call.result != -_EBADF

    def _with(self, fd: int, file: File | None, is_new: bool = False) -> str:
        name = "AT_FDCWD" if fd == AT_FDCWD else str(fd)
        if file is None:
            return name
        shown = file.shown
        return f"{name}{shown if shown is not None else self._shown(fd, file, is_new)}"

    def _find(self, fd: int, is_new: bool = False) -> File | None:
        found = self._asked(fd, is_new)
        if found is None:
            return None
        file = self._tables.current.files[fd] = self._file(found)
        return file

    def _asked(self, fd: int, is_new: bool = False) -> str | None:
        call = self._call
        assert call is not None
        return self._tables.asked(call.pid, fd, self._at(is_new))

    def _at(self, is_new: bool) -> int:
        assert self._call is not None
        return self._tables.now_ns if is_new else self._call.time_ns

    def _file(self, found: str) -> File:
        if found.startswith("/"):
            return self._tables.paths.file(found)
        return File(found, socket=Socket() if found.startswith("socket:[") else None)

    def _shown(self, fd: int, file: File, is_new: bool) -> str:
        """Keeps the text if it will not change."""
        if file.text is None:
            found = self._asked(fd, is_new)
            if found is None or not found.startswith(file.begins):
                has_addresses = self._details and file.socket is not None
                return self._addresses(fd, file, is_new) if has_addresses else ""
            file.text = found
        if self._details:
            if file.socket is not None:
                return self._addresses(fd, file, is_new)
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

    def _addresses(self, fd: int, file: File, is_new: bool) -> str:
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
        if not state.protocol and state.is_named and not self._tables.current.is_shared:
            state.protocol = self._source.protocol(call.pid, fd, self._at(is_new)) or ""
        shown = f"<{state.protocol or 'socket'}:[{inode}]>"
        if not state.is_named:
            file.shown = shown
        return shown


def _is_unknown(file: File | None) -> bool:
    if file is None or file is CLOSED or file.text is None:
        return True
    return file.socket is not None and not file.socket.protocol


def _quoted(path: str, behind: str = "") -> str:
    shown, end = (path[: -len(_DELETED)], "(deleted)") if path.endswith(_DELETED) else (path, "")
    escaped = text.escaped(shown.encode(errors="surrogateescape"))
    if "<" in escaped or ">" in escaped:
        escaped = escaped.replace("<", "\\74").replace(">", "\\76")
    return f"<{escaped}{behind}>{end}"
