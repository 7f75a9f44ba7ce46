# SPDX-License-Identifier: Apache-2.0
"""Downloads debug files from the servers in DEBUGINFOD_URLS, by libdebuginfod and its cache.

kwatch waits for a download for a short time only. It continues in a separate process, and frames
that are named before it ends have no source lines. (libdw would query the servers and wait.)
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from ctypes import POINTER, byref, c_char_p, c_int, c_void_p
from functools import partial

from kwatch.system.child import die_with_parent, python_command

URLS = "DEBUGINFOD_URLS"
_MAX_WAIT_S = 3.0  # for all downloads together
_MAX_DOWNLOADS = 4  # at a time


class Debuginfod:
    """The servers. `max_wait_s`: how long `find` may wait, all invocations together."""

    def __init__(self, urls: str, max_wait_s: float = _MAX_WAIT_S) -> None:
        self._environment = os.environ | {URLS: urls}
        self._max_wait_s = max_wait_s
        self._running: dict[bytes, subprocess.Popen[bytes]] = {}
        self._paths: dict[bytes, str | None] = {}

    def find(self, build_id: bytes) -> str | None:
        """The path of the debug file in the cache; None if there is none, or none yet."""
        if build_id not in self._paths and build_id not in self._running:
            if len(self._running) >= _MAX_DOWNLOADS:
                return None
            self._running[build_id] = self._start(build_id)
        if build_id in self._running:
            self._wait(build_id)
        return self._paths.get(build_id)

    def is_pending(self, build_id: bytes) -> bool:
        return build_id not in self._paths

    def _start(self, build_id: bytes) -> subprocess.Popen[bytes]:
        command = python_command(download, build_id.hex())
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            env=self._environment,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )

    def _wait(self, build_id: bytes) -> None:
        process, started = self._running[build_id], time.monotonic()
        try:
            process.wait(max(self._max_wait_s, 0))
        except subprocess.TimeoutExpired:
            return
        finally:
            self._max_wait_s -= time.monotonic() - started
        del self._running[build_id]
        with process.stdout or open(os.devnull, "rb") as output:
            self._paths[build_id] = os.fsdecode(output.read()) or None


def download(hexadecimal: str) -> None:
    """Prints the path of the debug file of a build-id, or nothing."""
    build_id = bytes.fromhex(hexadecimal)
    library = ctypes.CDLL("libdebuginfod.so.1")
    library.debuginfod_begin.restype = c_void_p
    library.debuginfod_find_debuginfo.argtypes = [c_void_p, c_char_p, c_int, POINTER(c_void_p)]
    client, path = library.debuginfod_begin(), c_void_p()
    if (
        client
        and library.debuginfod_find_debuginfo(client, build_id, len(build_id), byref(path)) >= 0
    ):
        sys.stdout.buffer.write(ctypes.string_at(path.value or 0))


def servers() -> Debuginfod | None:
    """None if no server is configured."""
    urls = os.environ.get(URLS, "").strip()
    return Debuginfod(urls) if urls else None
