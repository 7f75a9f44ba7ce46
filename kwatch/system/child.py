# SPDX-License-Identifier: Apache-2.0
"""Helper processes of kwatch, which must not outlive it."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from kwatch.system import signals

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_PACKAGES = str(Path(__file__).resolve().parents[2])
_MAX_DESCRIPTOR = 1 << 30
_SERVER_SOCKET = 3
_REAP_S = 2.0  # a killed helper ends within this time, unless the kernel waits for a file for it
_libc = ctypes.CDLL(None)


def python_command(
    function: Callable[[str], None], argument: str, with_packages: bool = False
) -> list[str]:
    """A command that calls a public function of kwatch. `with_packages`: it may import others."""
    module, name = function.__module__, function.__name__
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        f"from {module} import {name}; {name}(sys.argv[2])"
    )
    without = [] if with_packages else ["-S"]
    return [sys.executable, "-I", *without, "-c", program, _PACKAGES, argument]


def die_with_parent(parent: int) -> None:
    """The kernel kills this process when the thread that started it ends; an exec keeps that.

    Ends this process if `parent` ended before. The parent therefore calls os.getpid() for this
    argument, not the child os.getppid().
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def outlive_parent() -> None:
    """Undoes `die_with_parent`."""
    _libc.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)


def hold_only(*descriptors: int) -> None:
    """Closes every other descriptor: a probe is attached as long as anyone holds it."""
    first = 0
    for descriptor in (*sorted(descriptors), _MAX_DESCRIPTOR):
        if first < descriptor:  # an empty range would close all
            os.closerange(first, descriptor)
        first = descriptor + 1


def take(descriptor: int, place: int) -> None:
    """Moves a descriptor to `place`, leaves the standard streams empty and closes the rest."""
    os.dup2(descriptor, place)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
        os.set_inheritable(standard, True)  # dup2() of a descriptor to itself changes nothing
    os.set_inheritable(place, True)
    hold_only(0, 1, 2, place)


def start_server(
    serve: Callable[[str], None],
    kind: socket.SocketKind = socket.SOCK_SEQPACKET,
    with_packages: bool = False,
) -> tuple[int, socket.socket]:
    """Forks a helper process; returns its pid, and the socket that leads to it. Raises OSError.

    See `_become_server`: it waits for a byte.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    parent = os.getpid()
    with theirs:
        try:
            pid = signals.fork(signal.SIG_DFL)
        except OSError:
            ours.close()
            raise
        if pid == 0:
            _become_server(serve, theirs.fileno(), parent, with_packages)
    return pid, ours


def end_server(
    pid: int, sock: socket.socket, on_end: Callable[[int], None], seconds: float = _REAP_S
) -> None:
    """Kills a helper process. `on_end` is called with the pid before that can be reused."""
    sock.close()
    os.kill(pid, signal.SIGKILL)
    on_end(pid)
    reap(pid, seconds)


def _become_server(
    serve: Callable[[str], None], sock: int, parent: int, with_packages: bool
) -> NoReturn:
    """In a forked child: becomes a Python that calls `serve` with the number of its descriptor.

    `sock`: the only one of kwatch's descriptors that it keeps; others are probes. The child first
    waits for a byte, which the parent sends when it has excluded the child from tracing.
    """
    try:
        die_with_parent(parent)
        os.setsid()  # SIGINT from the terminal is for kwatch only
        take(sock, _SERVER_SOCKET)
        if os.read(_SERVER_SOCKET, 1):
            command = python_command(serve, str(_SERVER_SOCKET), with_packages)
            os.execv(sys.executable, command)
    finally:
        os._exit(1)


def reap(pid: int, seconds: float = _REAP_S) -> int | None:
    """Waits for the end of a killed child, and returns its wait status.

    None if it has not ended after that time. A process that waits for a file system that does not
    answer ends only when that does (linux fs/fuse/dev.c, request_wait_answer()).
    """
    process = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        ended = poll.poll(seconds * 1000)
    finally:
        os.close(process)
    return os.waitpid(pid, 0)[1] if ended else None
