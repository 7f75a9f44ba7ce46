# SPDX-License-Identifier: Apache-2.0
"""The calls that close descriptors, or change what is known of them without opening any.

Each function is called after the call was shown, whether it has succeeded or not.
"""

from __future__ import annotations

from kwatch.descriptors import socket_names
from kwatch.descriptors.arguments import int_of, path_of, piece, word_of, written
from kwatch.descriptors.file import AT_FDCWD, File
from kwatch.descriptors.opening import Effect
from kwatch.descriptors.tables import Tables
from kwatch.model.traced_call import TracedCall

_EBADF, _EINPROGRESS = 9, 115
_F_SETFD, _FD_CLOEXEC = 2, 1
_FIOCLEX, _FIONCLEX = 0x5451, 0x5450
_CLOSE_UNSHARE, _CLOSE_CLOEXEC = 2, 4
_CLONE_FILES, _CLONE_THREAD = 0x400, 0x10000
_RENAME_EXCHANGE = 2


def _close(tables: Tables, call: TracedCall) -> None:
    """Whatever other error it returns, it has closed the descriptor."""
    if call.result != -_EBADF:
        tables.close(int_of(call, 0))


def _close_range(tables: Tables, call: TracedCall) -> None:
    if call.result < 0:
        return
    first, last, flags = (call.arguments[word] & 0xFFFFFFFF for word in range(3))
    if flags & _CLOSE_UNSHARE:
        _unshare_table(tables, call)
    for fd in [fd for fd in tables.current.files if first <= fd <= last]:
        if flags & _CLOSE_CLOEXEC:
            tables.keep(fd, False)
        else:
            tables.close(fd)


def _unshare(tables: Tables, call: TracedCall) -> None:
    if call.result == 0 and call.arguments[0] & _CLONE_FILES:
        _unshare_table(tables, call)


def _unshare_table(tables: Tables, call: TracedCall) -> None:
    tables.current = tables.current.copy()
    tables.replace(call.pid, tables.current)


def _fcntl(tables: Tables, call: TracedCall) -> None:
    if int_of(call, 1) == _F_SETFD and call.result >= 0:
        tables.keep(int_of(call, 0), not call.arguments[2] & _FD_CLOEXEC)


def _ioctl(tables: Tables, call: TracedCall) -> None:
    request = call.arguments[1] & 0xFFFFFFFF
    if request in (_FIOCLEX, _FIONCLEX) and call.result >= 0:
        tables.keep(int_of(call, 0), request == _FIONCLEX)


def _exec(tables: Tables, call: TracedCall) -> None:
    if call.result == 0:
        tables.replace(call.pid, tables.current.after_exec(tables.now_ns))


def _fork(tables: Tables, call: TracedCall) -> None:
    if call.result <= 0:
        return
    flags = 0
    if call.name == "clone":
        flags = call.arguments[0]
    elif call.name == "clone3":
        flags = word_of(piece(call, 0)) or 0
    if not flags & _CLONE_THREAD:
        tables.fork(call, flags & _CLONE_FILES > 0)


def _chdir(tables: Tables, call: TracedCall) -> None:
    path = path_of(call, 0)
    if call.result < 0:
        return
    text = None if path is None else tables.path_of(call, AT_FDCWD, path)
    tables.change_directory(None if text is None else tables.paths.file(text))


def _fchdir(tables: Tables, call: TracedCall) -> None:
    if call.result == 0:
        tables.change_directory(tables.at_begin(call, int_of(call, 0)))


def _remove(directory: int | None, path: int) -> Effect:
    def effect(tables: Tables, call: TracedCall) -> None:
        removed = _place(tables, call, directory, path) if call.result == 0 else None
        if removed is not None:
            tables.paths.remove(removed)

    return effect


def _rename(old: tuple[int | None, int], new: tuple[int | None, int], flags: int | None) -> Effect:
    """The words of the directories and paths, and of the flags."""

    def effect(tables: Tables, call: TracedCall) -> None:
        if call.result < 0:
            return
        one, other = _place(tables, call, *old), _place(tables, call, *new)
        if one is None or other is None:
            return
        if flags is not None and call.arguments[flags] & _RENAME_EXCHANGE:
            tables.paths.exchange(one, other)
        else:
            tables.paths.rename(one, other)

    return effect


def _place(tables: Tables, call: TracedCall, directory: int | None, word: int) -> str | None:
    path = path_of(call, word)
    if not path:
        return None
    fd = AT_FDCWD if directory is None else int_of(call, directory)
    return tables.path_of(call, fd, path, follow=False)


def _socket_of(tables: Tables, call: TracedCall) -> File | None:
    file = tables.at_begin(call, int_of(call, 0))
    return file if file is not None and file.socket is not None else None


def _bind(tables: Tables, call: TracedCall) -> None:
    _name_socket(tables, call, piece(call, 1) if call.name == "bind" else None)


def _name_socket(tables: Tables, call: TracedCall, address: bytes | None) -> None:
    file = _socket_of(tables, call)
    if call.result < 0 or file is None or file.socket is None:
        return
    if not file.socket.is_named:
        file.socket.is_named, file.shown = True, None
    if address is not None:
        file.socket.local = socket_names.address(address)
        file.socket.path = socket_names.unix_path(address)


def _connect(tables: Tables, call: TracedCall) -> None:
    file = _socket_of(tables, call)
    if call.result not in (0, -_EINPROGRESS) or file is None or file.socket is None:
        return
    if not file.socket.is_named:
        file.socket.is_named, file.shown = True, None
    file.socket.is_connected = True
    file.socket.peer = socket_names.address(piece(call, 1) or b"")


def _getsockname(tables: Tables, call: TracedCall) -> None:
    file = _socket_of(tables, call)
    found = socket_names.address(written(call, 1) or b"")
    if call.result == 0 and found and file is not None and file.socket is not None:
        file.socket.local = found


CHANGING: dict[str, Effect] = {
    "close": _close,
    "close_range": _close_range,
    "unshare": _unshare,
    "fcntl": _fcntl,
    "fcntl64": _fcntl,
    "ioctl": _ioctl,
    "execve": _exec,
    "execveat": _exec,
    "fork": _fork,
    "vfork": _fork,
    "clone": _fork,
    "clone3": _fork,
    "chdir": _chdir,
    "fchdir": _fchdir,
    "unlink": _remove(None, 0),
    "rmdir": _remove(None, 0),
    "unlinkat": _remove(0, 1),
    "rename": _rename((None, 0), (None, 1), None),
    "renameat": _rename((0, 1), (2, 3), None),
    "renameat2": _rename((0, 1), (2, 3), 4),
    "bind": _bind,
    "listen": _bind,
    "connect": _connect,
    "getsockname": _getsockname,
}
