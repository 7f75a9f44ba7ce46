# SPDX-License-Identifier: Apache-2.0
"""The holder: a process of kwatch's own whose threads keep the memory of others from being freed.

Each thread reads a byte of /proc/PID/mem into a page that stays missing. Meanwhile mem_rw() of the
kernel (linux fs/proc/base.c, the same from 5.10 to 6.18) counts as a user of that memory: it has
called mmget_not_zero(), and waits in copy_to_user() without a lock of the other process. exit_mm()
and exec_mmap() of the other process then leave the memory as it is. Nobody waits for that.

A process of its own, because a thread that waits like this must not be stopped, frozen or traced:
see kwatch.kernel.userfaultfd. Ctrl-Z does not reach this session. If something else does, the
process ends, which ends all waits, and kwatch starts it again.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import socket
import struct
import threading
import time
from enum import IntEnum

from kwatch.errors import KwatchError
from kwatch.kernel.userfaultfd import MissingPages
from kwatch.kernel.watchdog import Watchdog
from kwatch.wire.maps import MAX_HELD

#: A request: what, and the place to release or the address to read; with HOLD, a /proc/PID/mem.
REQUEST = struct.Struct("BxxxiQ")
#: The answer to HOLD: the place, or a negative error number.
ANSWER = struct.Struct("i")
MAX_REASON = 512  # bytes; the first message says why nothing can be held, or is empty

_START_S = 1.0  # until a read has begun to wait
_TOUCH_S = 0.02
_LOOK_S = 1.0
_MAX_FROZEN_S = 10  # half of what suspending a machine waits for: freeze_timeout_msecs
_MAX_STOPPED_S = 10
_MAX_SPUN_S = 0.2  # of CPU time; waiting takes none
_THREAD_STACK = 128 << 10

_pread = ctypes.CDLL(None, use_errno=True).pread64
_pread.restype = ctypes.c_ssize_t
_pread.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64]


class What(IntEnum):
    HOLD = 1
    RELEASE = 2


class _Wait:
    """A read that waits for its page. When it ends, it closes `mem` and writes to `ended`."""

    def __init__(self, mem: int, address: int, page: int, ended: int) -> None:
        self.error = 0
        self.has_ended = False
        self.is_released = False
        self._read = mem, address, page
        self._ended = ended
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def spun_s(self) -> float:
        """CPU time since the thread began; 0 once it frees memory."""
        if self.is_released or self.has_ended or self._thread.ident is None:
            return 0.0
        try:
            return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))
        except OSError:  # it has just ended
            return 0.0

    def _run(self) -> None:
        mem, address, page = self._read
        count = _pread(mem, page, 1, address)
        self.error = ctypes.get_errno() if count < 0 else 0 if count else errno.ESRCH
        os.close(mem)
        self.has_ended = True
        os.eventfd_write(self._ended, 1)


class Server:
    """Holds and releases until the socket is closed."""

    def __init__(self, sock: socket.socket, pages: MissingPages) -> None:
        self._socket = sock
        self._pages = pages
        self._waits: dict[int, _Wait] = {}
        self._watchdog = Watchdog()
        self._ended = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # readable after a read
        self._stopped_s = 0.0

    def run(self) -> None:
        while not self._must_end():
            self._watchdog.set(_MAX_FROZEN_S if self._waits else 0)
            if select.select([self._socket], [], [], _LOOK_S if self._waits else None)[0]:
                message, files, _, _ = socket.recv_fds(self._socket, REQUEST.size, 1)
                if not message:
                    return
                what, place, address = REQUEST.unpack(message)
                if what == What.RELEASE:
                    self._release(place)
                elif files:
                    self._socket.send(ANSWER.pack(self._held(files[0], address)))

    def _held(self, mem: int, address: int) -> int:
        """The place that holds the memory, or a negative error number."""
        self._forget_ended()
        free = next((place for place in range(MAX_HELD) if place not in self._waits), None)
        if free is None:
            os.close(mem)
            return -errno.EUSERS
        self._pages.empty(free)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._ended)
        page = self._pages.address(free)
        wait = self._waits[free] = _Wait(mem, address, page, self._ended)
        until = time.monotonic() + _START_S
        while not wait.has_ended and time.monotonic() < until:
            if free in self._pages.touched(_TOUCH_S, self._ended):
                return free
        if wait.has_ended:
            return -(wait.error or errno.EIO)
        self._release(free)  # the read has not got as far as the page
        return -errno.ETIMEDOUT

    def _release(self, place: int) -> None:
        wait = self._waits.get(place)
        if wait is not None and not wait.is_released:
            wait.is_released = True
            self._pages.fill(place)

    def _forget_ended(self) -> None:
        for place in [place for place, wait in self._waits.items() if wait.has_ended]:
            del self._waits[place]

    def _must_end(self) -> bool:
        """Whether a thread does not sleep, or kwatch has been stopped for too long to scan."""
        self._forget_ended()
        self._stopped_s = self._stopped_s + _LOOK_S if self._waits and _is_stopped() else 0.0
        is_spinning = any(wait.spun_s > _MAX_SPUN_S for wait in self._waits.values())
        return is_spinning or self._stopped_s > _MAX_STOPPED_S


def _is_stopped() -> bool:
    """Whether kwatch is stopped."""
    with contextlib.suppress(OSError), open(f"/proc/{os.getppid()}/stat") as file:
        return file.read().rpartition(") ")[2].startswith("T")
    return False


def serve(descriptor: str) -> None:
    """Serves a socket that the parent has created. Exits with the parent, which ends all waits."""
    signal.pthread_sigmask(signal.SIG_SETMASK, set(signal.Signals))
    threading.stack_size(_THREAD_STACK)
    with socket.socket(fileno=int(descriptor)) as sock:
        try:
            server = Server(sock, MissingPages(MAX_HELD))
        except KwatchError as error:
            sock.send(f"{error}\0{error.hint}".encode()[:MAX_REASON])
            return
        sock.send(b"\0")
        server.run()
    os._exit(0)
