# SPDX-License-Identifier: Apache-2.0
"""The file helper: a process that touches files whose file system may not answer.

It copies such a file to memory, and attaches probes to it. If the file system does not answer,
only this process waits.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
from contextlib import suppress

from kwatch.errors import KwatchError
from kwatch.kernel import bpf, perf
from kwatch.system.messages import Closed, Message, receive, send

MAX_SIZE = 256 << 20  # bytes of a file
_CHUNK = 1 << 20


def serve(descriptor: str) -> None:
    """Says that it has started, and answers requests until the socket is closed."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with socket.socket(fileno=int(descriptor)) as sock, suppress(Closed):
        send(sock, {})
        while True:
            request, programs = receive(sock)
            files: list[int] = []
            try:
                answer, fd = _answered(request, next(iter(programs), None))
                files = [fd]
            except (OSError, KwatchError) as error:
                number = error.errno if isinstance(error, OSError) else 0
                answer = {
                    "errno": number or 0,
                    "error": getattr(error, "strerror", 0) or str(error),
                }
            send(sock, answer, files)
            for used in (*programs, *files):
                os.close(used)


def _answered(request: Message, program: int | None) -> tuple[Message, int]:
    source, path = _opened(request["paths"], request["inode"])
    try:
        if request["what"] == "copy":
            return {}, _copied(source, os.fstat(source))
        return {}, _attached(request, path, program)
    finally:
        os.close(source)


def _attached(request: Message, path: str, program: int | None) -> int:
    """A link of the program, or an event, to which kwatch attaches one."""
    offsets, cookies, pid = request["offsets"], request["cookies"], request["pid"]
    if program is not None:
        return bpf.link_uprobes(program, path, offsets, cookies, pid, request["flags"])
    return perf.open_uprobe(path, offsets[0], pid, bool(request["flags"]))


def _opened(paths: list[str], inode: int) -> tuple[int, str]:
    """The first path that leads to a file with this inode number, opened."""
    failure: OSError | None = None
    for path in paths:
        try:
            source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            failure = failure or error
            continue
        status = os.fstat(source)
        if stat.S_ISREG(status.st_mode) and status.st_ino == inode:
            return source, path
        os.close(source)
    raise failure or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _copied(source: int, status: os.stat_result) -> int:
    if status.st_size > MAX_SIZE:
        raise KwatchError(f"it has more than {MAX_SIZE >> 20} MiB")
    copy = os.memfd_create("copy", os.MFD_CLOEXEC)
    try:
        while chunk := os.read(source, _CHUNK):
            os.write(copy, chunk)
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    except BaseException:
        os.close(copy)
        raise
    return copy
