# SPDX-License-Identifier: Apache-2.0
"""What a descriptor refers to, and the process's descriptors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

#: The place of the working directory among the descriptors.
AT_FDCWD = -100
_DELETED = " (deleted)"


@dataclass(slots=True)
class Socket:
    """`protocol`: `TCP`; empty if it is unknown. `local`, `peer`: addresses; empty if unknown.

    `is_named`: it is bound or connected. `path`: of a UNIX socket, with quotes. `other`: the other
    end of a pair.
    """

    protocol: str = ""
    is_named: bool = True
    is_connected: bool = True
    local: str = ""
    peer: str = ""
    path: str = ""
    other: File | None = None


@dataclass(slots=True, eq=False, weakref_slot=True)
class File:
    """`text`: as /proc/PID/fd/N reads; None while it is unknown, but for how it begins.

    `shown`: what stands behind the number; None until it is needed.
    """

    text: str | None = None
    begins: str = ""
    shown: str | None = None
    pid: int = 0  # of a pidfd
    socket: Socket | None = None

    def delete(self) -> None:
        if self.text is not None and not self.text.endswith(_DELETED):
            self.text, self.shown = f"{self.text}{_DELETED}", None

    def rename(self, path: str) -> None:
        self.text, self.shown = path, None


#: Of a descriptor that is known to be closed.
CLOSED = File(shown="")


@dataclass(slots=True)
class Table:
    """`kept`: the descriptors that an exec leaves open.

    `changed`: when the last call that has changed a descriptor returned, and `all_changed` one that
    may have changed all. `is_shared`: several processes have it.
    """

    files: dict[int, File] = field(default_factory=dict)
    kept: set[int] = field(default_factory=lambda: {AT_FDCWD})
    changed: dict[int, int] = field(default_factory=dict)
    all_changed: int = 0
    is_shared: bool = False

    def copy(self) -> Table:
        return Table(self.files.copy(), self.kept.copy(), self.changed.copy(), self.all_changed)

    def changed_after(self, fd: int, time_ns: int) -> bool:
        return max(self.changed.get(fd, 0), self.all_changed) > time_ns

    def after_exec(self, now_ns: int) -> Table:
        """Descriptors that are closed are not known to be: they may not have had the flag."""
        kept = {fd: self.files[fd] for fd in self.kept if fd in self.files}
        return Table(kept, self.kept.copy(), self.changed.copy(), now_ns)


class Paths:
    """The files that are open by path, so that a removed or renamed one is shown as it is."""

    def __init__(self) -> None:
        self._files: WeakValueDictionary[str, File] = WeakValueDictionary()

    def file(self, path: str) -> File:
        found = self._files.get(path)
        if found is None:
            found = File(path)
            if not path.endswith(_DELETED):
                self._files[path] = found
        return found

    def remove(self, path: str) -> None:
        found = self._files.pop(path, None)
        if found is not None:
            found.delete()

    def rename(self, old: str, new: str) -> None:
        """Also what is below a directory."""
        if old == new:
            return
        self.remove(new)
        for path, file in list(self._below(old)):
            del self._files[path]
            file.rename(new + path[len(old) :])
            self._files[new + path[len(old) :]] = file

    def exchange(self, one: str, other: str) -> None:
        moved = [(other + path[len(one) :], file) for path, file in self._below(one)]
        moved += [(one + path[len(other) :], file) for path, file in self._below(other)]
        for _, file in moved:
            self._files.pop(file.text or "", None)
        for path, file in moved:
            file.rename(path)
            self._files[path] = file

    def _below(self, directory: str) -> Iterator[tuple[str, File]]:
        for path, file in list(self._files.items()):
            if path == directory or path.startswith(f"{directory}/"):
                yield path, file
