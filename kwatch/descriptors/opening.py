# SPDX-License-Identifier: Apache-2.0
"""The calls that open descriptors.

Each function is called with a call that has succeeded, before it is shown.
"""

from __future__ import annotations

from collections.abc import Callable

from kwatch.descriptors import socket_names
from kwatch.descriptors.arguments import int_of, path_of, piece, two_ints, word_of, written
from kwatch.descriptors.file import AT_FDCWD, File, Socket
from kwatch.descriptors.received import open_received, received
from kwatch.descriptors.tables import Tables
from kwatch.model.traced_call import TracedCall
from kwatch.syscalls.constants import numbers
from kwatch.wire.events import Abi

Effect = Callable[[Tables, TracedCall], None]

_CLOEXEC = 0o2000000  # of O_, SOCK_, EFD_ and the like
_F_DUPFD, _F_DUPFD_CLOEXEC = 0, 1030


def _open_at(directory: int | None, path: int, flags: int | None) -> Effect:
    """The words of the directory, the path and the flags."""

    def effect(tables: Tables, call: TracedCall) -> None:
        fd = AT_FDCWD if directory is None else int_of(call, directory)
        bits = 0 if flags is None else call.arguments[flags]
        _open(tables, call, fd, path_of(call, path), bits)

    return effect


def _openat2(tables: Tables, call: TracedCall) -> None:
    flags = word_of(piece(call, 2))
    if flags is None:
        tables.open(call.result, None, False)
    else:
        _open(tables, call, int_of(call, 0), path_of(call, 1), flags)


def _open(tables: Tables, call: TracedCall, directory: int, path: str | None, flags: int) -> None:
    known = numbers("open_flags", Abi(call.abi))
    unnamed = known["O_TMPFILE"] & ~known["O_DIRECTORY"]
    file = None
    if path is not None and not flags & unnamed:
        text = tables.path_of(call, directory, path, not flags & known["O_NOFOLLOW"])
        file = None if text is None else tables.paths.file(text)
    tables.open(call.result, file, not flags & _CLOEXEC)


def _named(text: str, flags: int | None, cloexec: int = _CLOEXEC) -> Effect:
    """A descriptor without a path. `flags`: the word; None: an exec does not close it."""

    def effect(tables: Tables, call: TracedCall) -> None:
        is_kept = flags is None or not call.arguments[flags] & cloexec
        tables.open(call.result, File(text), is_kept)

    return effect


def _unknown(tables: Tables, call: TracedCall) -> None:
    """Nothing in the call tells what its descriptor refers to."""
    tables.open(call.result, None, False)


def _memfd(tables: Tables, call: TracedCall) -> None:
    name = path_of(call, 0)
    file = None if name is None else File(f"/memfd:{name} (deleted)")
    tables.open(call.result, file, not call.arguments[1] & 1)


def _pidfd(tables: Tables, call: TracedCall) -> None:
    tables.open(call.result, File("anon_inode:[pidfd]", pid=int_of(call, 0)), False)


def _pipe(tables: Tables, call: TracedCall) -> None:
    fds = two_ints(written(call, 0))
    if fds is None:
        return
    file = File(begins="pipe:[")
    is_kept = call.name == "pipe" or not call.arguments[1] & _CLOEXEC
    for fd in fds:
        tables.open(fd, file, is_kept)


def _socket(tables: Tables, call: TracedCall) -> None:
    tables.open(call.result, _new_socket(call), not call.arguments[1] & _CLOEXEC)


def _new_socket(call: TracedCall) -> File:
    protocol = socket_names.protocol(int_of(call, 0), int_of(call, 1), int_of(call, 2))
    state = Socket(protocol, is_named=False, is_connected=False)
    return File(begins="socket:[", socket=state)


def _socketpair(tables: Tables, call: TracedCall) -> None:
    fds = two_ints(written(call, 3))
    if fds is None:
        return
    one, other = _new_socket(call), _new_socket(call)
    for fd, file, peer in ((fds[0], one, other), (fds[1], other, one)):
        state = file.socket
        assert state is not None
        state.is_named = state.is_connected = True
        state.other = peer
        found = tables.asked(call.pid, fd, tables.now_ns)
        if found is not None and found.startswith(file.begins):
            file.text = found
        tables.open(fd, file, not call.arguments[1] & _CLOEXEC)


def _accept(tables: Tables, call: TracedCall) -> None:
    listening = tables.at_begin(call, int_of(call, 0))
    state = Socket()
    if listening is not None and listening.socket is not None:
        known = listening.socket
        state.protocol, state.path = known.protocol, known.path
        state.local = "" if socket_names.is_any(known.local) else known.local
        state.peer = socket_names.address(written(call, 1) or b"")
    file = File(begins="socket:[", socket=state)
    is_kept = call.name == "accept" or not call.arguments[3] & _CLOEXEC
    tables.open(call.result, file, is_kept)


def _duplicate(tables: Tables, call: TracedCall) -> None:
    if call.name == "dup2" and call.result == int_of(call, 0):
        tables.stay(call.result)
        return
    file = tables.at_begin(call, int_of(call, 0))
    is_kept = call.name != "dup3" or not call.arguments[2] & _CLOEXEC
    tables.open(call.result, file, is_kept)


def _fcntl(tables: Tables, call: TracedCall) -> None:
    command = int_of(call, 1)
    if command in (_F_DUPFD, _F_DUPFD_CLOEXEC):
        file = tables.at_begin(call, int_of(call, 0))
        tables.open(call.result, file, command == _F_DUPFD)


OPENING: dict[str, Effect] = {
    "open": _open_at(None, 0, 1),
    "creat": _open_at(None, 0, None),
    "openat": _open_at(0, 1, 2),
    "open_tree": _open_at(0, 1, 2),
    "openat2": _openat2,
    "memfd_create": _memfd,
    "pidfd_open": _pidfd,
    "pipe": _pipe,
    "pipe2": _pipe,
    "socket": _socket,
    "socketpair": _socketpair,
    "accept": _accept,
    "accept4": _accept,
    "dup": _duplicate,
    "dup2": _duplicate,
    "dup3": _duplicate,
    "fcntl": _fcntl,
    "fcntl64": _fcntl,
    "epoll_create": _named("anon_inode:[eventpoll]", None),
    "epoll_create1": _named("anon_inode:[eventpoll]", 0),
    "eventfd": _named("anon_inode:[eventfd]", None),
    "eventfd2": _named("anon_inode:[eventfd]", 1),
    "signalfd": _named("anon_inode:[signalfd]", None),
    "signalfd4": _named("anon_inode:[signalfd]", 3),
    "timerfd_create": _named("anon_inode:[timerfd]", 1),
    "inotify_init": _named("anon_inode:inotify", None),
    "inotify_init1": _named("anon_inode:inotify", 0),
    "fanotify_init": _named("anon_inode:[fanotify]", 0, 1),
    "userfaultfd": _named("anon_inode:[userfaultfd]", 0),
    "pidfd_getfd": _unknown,
    "open_by_handle_at": _unknown,
    "mq_open": _unknown,
    "memfd_secret": _unknown,
    "fsopen": _unknown,
    "fsmount": _unknown,
    "fspick": _unknown,
    "landlock_create_ruleset": _unknown,
    "recvmsg": open_received,
    "recvmmsg": open_received,
    "perf_event_open": _named("anon_inode:[perf_event]", 4, 8),
}


def opened(call: TracedCall) -> tuple[int, ...]:
    """The descriptors that a call has opened, if it did."""
    if call.result < 0:
        return ()
    if call.name in ("fcntl", "fcntl64"):
        is_copy = int_of(call, 1) in (_F_DUPFD, _F_DUPFD_CLOEXEC)
        return (call.result,) if is_copy else ()
    if call.name in ("pipe", "pipe2", "socketpair"):
        return two_ints(written(call, 3 if call.name == "socketpair" else 0)) or ()
    if call.name in ("recvmsg", "recvmmsg"):
        return received(call)
    return (call.result,)


def is_by_path(call: TracedCall) -> bool:
    """Whether it opens a file whose path was captured."""
    if call.name in ("open", "creat"):
        return path_of(call, 0) is not None
    return call.name in ("openat", "openat2", "open_tree") and path_of(call, 1) is not None
