# SPDX-License-Identifier: Apache-2.0
"""A FUSE file system with one file, whose server stops answering when it is told to.

The server speaks the kernel's protocol itself: include/uapi/linux/fuse.h.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import struct
import subprocess
import sys
from pathlib import Path

_IN = struct.Struct("<IIQQIIIHH")  # len, opcode, unique, nodeid, uid, gid, pid, ...
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _STATFS, _RELEASE = 1, 2, 3, 14, 15, 17, 18
_FLUSH, _INIT, _OPENDIR, _ACCESS, _INTERRUPT, _BATCH_FORGET = 25, 26, 27, 34, 36, 42
_ENOENT, _ENOSYS = -2, -38
_ROOT, _FILE = 1, 2
_MNT_DETACH = 2


class Server:
    """Runs in a process of its own. At SIGUSR1 it reads requests on, but answers none."""

    def __init__(self, device: int, name: str, contents: bytes) -> None:
        self._device = device
        self._name = name.encode() + b"\0"
        self._contents = contents
        self._answers = True
        signal.signal(signal.SIGUSR1, self._fall_silent)

    def _fall_silent(self, *_: object) -> None:
        self._answers = False

    def run(self) -> None:
        while True:
            try:
                request = os.read(self._device, 1 << 17)
            except OSError:
                return  # unmounted
            _, opcode, unique, node, *_ = _IN.unpack_from(request)
            if opcode in (_FORGET, _BATCH_FORGET, _INTERRUPT) or not self._answers:
                continue
            error, body = self._answer(opcode, node, request[_IN.size :])
            os.write(self._device, _OUT.pack(_OUT.size + len(body), error, unique) + body)

    def _answer(self, opcode: int, node: int, body: bytes) -> tuple[int, bytes]:
        if opcode == _INIT:
            return 0, struct.pack("<IIIIHHIIHH32x", 7, 31, 1 << 16, 0, 12, 9, 1 << 16, 1, 16, 0)
        if opcode == _LOOKUP:  # nothing may be kept: each look asks again
            if body != self._name:
                return _ENOENT, b""
            return 0, struct.pack("<QQQQII", _FILE, 0, 0, 0, 0, 0) + self._attributes(_FILE)
        if opcode == _GETATTR:
            return 0, struct.pack("<QII", 0, 0, 0) + self._attributes(node)
        if opcode in (_OPEN, _OPENDIR):
            return 0, struct.pack("<QII", 0, 0, 0)
        if opcode == _READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return 0, self._contents[offset : offset + size]
        if opcode in (_RELEASE, _FLUSH):
            return 0, b""
        if opcode == _STATFS:
            return 0, struct.pack("<QQQQQIIII24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0)
        return _ENOSYS, b""

    def _attributes(self, node: int) -> bytes:
        kind, size = (stat.S_IFDIR, 0) if node == _ROOT else (stat.S_IFREG, len(self._contents))
        times = [1_000_000_000] * 3
        return _ATTR.pack(node, size, size // 512, *times, 0, 0, 0, kind | 0o755, *[1] * 6)


class FuseMount:
    """Mounts the copy of a file; `file` is its path there."""

    def __init__(self, folder: Path, original: Path) -> None:
        self.file = folder / original.name
        self._folder = folder
        folder.mkdir()
        self._device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0,allow_other"
        done = _libc.mount(b"kwatch-test", os.fsencode(folder), b"fuse", 6, options.encode())
        if done:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        program = f"from harness.fuse import main; main({self._device}, {str(original)!r})"
        self._server = subprocess.Popen(
            [sys.executable, "-c", program],
            pass_fds=[self._device],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        os.close(self._device)

    def stop(self) -> None:
        """Requests are not read any more."""
        self._server.send_signal(signal.SIGSTOP)

    def fall_silent(self) -> None:
        """Requests are read, and not answered: who waits cannot be killed."""
        self._server.send_signal(signal.SIGUSR1)

    def close(self) -> None:
        """The end of the server fails all requests."""
        self._server.kill()
        self._server.wait()
        _libc.umount2(os.fsencode(self._folder), _MNT_DETACH)


_libc = ctypes.CDLL(None, use_errno=True)


def main(device: int, original: str) -> None:
    path = Path(original)
    Server(device, path.name, path.read_bytes()).run()
