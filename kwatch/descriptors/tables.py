# SPDX-License-Identifier: Apache-2.0
"""The descriptors of all processes, and the changes that a call makes."""

from __future__ import annotations

from kwatch.descriptors.file import AT_FDCWD, CLOSED, File, Paths, Table
from kwatch.descriptors.source import Source
from kwatch.model.traced_call import TracedCall


class Tables:
    """`current`: the table of the process whose call is applied.

    `before`: what the descriptors that the call opens referred to before; None if that is unknown.
    `arrived`: those of them that a message has brought. `now_ns`: when the call returned.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.paths = Paths()
        self.by_pid: dict[int, Table] = {}
        self._by_first_call: set[int] = set()  # their forks have not returned
        self.current = Table()
        self.before: dict[int, File | None] = {}
        self.arrived: set[int] = set()
        self.now_ns = 0

    def enter(self, pid: int, now_ns: int = 0) -> None:
        """Begins a call of a process."""
        self.now_ns = now_ns
        found = self.by_pid.get(pid)
        self.current = found if found is not None else self._new(pid)
        if self.before:
            self.before, self.arrived = {}, set()

    def _new(self, pid: int) -> Table:
        """Of a process without a table: a copy of its parent's, whose fork has not returned."""
        parent = self.by_pid.get(self.source.parent(pid) or 0)
        if parent is not None:
            self._by_first_call.add(pid)
        made = self.by_pid[pid] = parent.copy() if parent is not None else Table()
        return made

    def open(self, fd: int, file: File | None, is_kept: bool) -> None:
        """None: it is open, but what it refers to is unknown."""
        self.before[fd] = self.current.files.get(fd)
        self.current.changed[fd] = self.now_ns
        if file is None:
            self.current.files.pop(fd, None)
        else:
            self.current.files[fd] = file
        self.keep(fd, is_kept)

    def stay(self, fd: int) -> None:
        """The call returns a descriptor that it has not changed."""
        self.before[fd] = self.current.files.get(fd)

    def keep(self, fd: int, is_kept: bool) -> None:
        if is_kept:
            self.current.kept.add(fd)
        else:
            self.current.kept.discard(fd)

    def close(self, fd: int) -> None:
        self.current.files[fd] = CLOSED
        self.current.changed[fd] = self.now_ns
        self.current.kept.discard(fd)

    def forget(self) -> None:
        """Any descriptor of the process may have been changed."""
        table, directory = self.current, self.current.files.get(AT_FDCWD)
        table.files.clear()
        if directory is not None:
            table.files[AT_FDCWD] = directory
        table.all_changed = self.now_ns

    def at_begin(self, call: TracedCall, fd: int) -> File | None:
        """What a descriptor referred to when the call began; None if that is not known."""
        if self.current.changed_after(fd, call.time_ns) and fd not in self.before:
            return None
        file = self.before[fd] if fd in self.before else self.current.files.get(fd)
        return None if file is CLOSED else file

    def asked(self, pid: int, fd: int, at_ns: int) -> str | None:
        """From the source. Of a shared table it cannot tell who has changed it since."""
        return None if self.current.is_shared else self.source.descriptor(pid, fd, at_ns)

    def fork(self, call: TracedCall, shares: bool) -> None:
        """`shares`: both have one table from now on."""
        child = call.result
        if shares:
            self.by_pid[child] = self.current
            self.current.is_shared = True
        elif child not in self._by_first_call:
            made = self.by_pid[child] = self.current.copy()
            for fd, changed in made.changed.items():
                if changed > call.time_ns:  # by another thread, before or after the fork
                    made.files.pop(fd, None)
        self._by_first_call.discard(child)

    def replace(self, pid: int, table: Table) -> None:
        """The process no longer shares its table."""
        self.by_pid[pid] = table

    def end(self, pid: int) -> None:
        self.by_pid.pop(pid, None)

    def path_of(
        self, call: TracedCall, directory: int, path: str, follow: bool = True
    ) -> str | None:
        """Without symbolic links, the last one only if `follow`; None if it is unknown."""
        base = ""
        if not path.startswith("/"):
            base = self._text(call, directory) or ""
            if not path or not base.startswith("/"):
                return base or None
            if not follow and "/" not in path and path not in (".", ".."):
                return f"{base.rstrip('/')}/{path}"
        return self.source.resolved(call.pid, base, path, follow)

    def _text(self, call: TracedCall, fd: int) -> str | None:
        file = self.at_begin(call, fd)
        if file is None:
            return self.asked(call.pid, fd, call.time_ns)
        return file.text

    def change_directory(self, file: File | None) -> None:
        self.current.changed[AT_FDCWD] = self.now_ns
        if file is None:
            self.current.files.pop(AT_FDCWD, None)
        else:
            self.current.files[AT_FDCWD] = file
