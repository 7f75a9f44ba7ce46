# SPDX-License-Identifier: Apache-2.0
"""The symbol reader: a separate process in which libdw reads the files of traced programs.

Debug information contains programs with loops, and anyone may have written them. If libdw crashes,
hangs or takes too much memory, only this process ends, and kwatch continues.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections import OrderedDict
from dataclasses import dataclass

from kwatch.errors import KwatchError
from kwatch.symbols import reader_protocol
from kwatch.symbols.dwarf import debuginfod
from kwatch.symbols.dwarf.libdw import Module

#: Seconds of CPU time for one request, and bytes of private memory of the process.
CPU_LIMIT_S = 5.0
MEMORY_LIMIT = 2 << 30
#: In bytes. Above it all modules are closed. If that does not help, the process exits, and kwatch
#: starts it again when needed.
RESIDENT_LIMIT = 384 << 20
_MAX_MODULES = 64


@dataclass(slots=True)
class _File:
    fd: int
    path: str
    root: str
    module: Module | None = None

    def close(self) -> None:
        if self.module is not None:
            self.module.close()
            self.module = None


class Server:
    """Answers requests until the socket is closed."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._files: OrderedDict[int, _File] = OrderedDict()
        self._debuginfod = debuginfod.servers()
        os.environ.pop(debuginfod.URLS, None)  # libdw itself would wait for downloads

    def run(self) -> None:
        while True:
            try:
                request, fd = reader_protocol.receive(self._socket)
            except reader_protocol.Closed:
                return
            if "open" in request:
                self._files[request["open"]] = _File(fd or 0, request["path"], request["root"])
            elif "close" in request:
                self._forget(request["close"])
            else:
                reader_protocol.send(
                    self._socket, self._answer(request["file"], request["addresses"])
                )
                if not self._make_room():
                    return

    def _forget(self, number: int) -> None:
        file = self._files.pop(number)
        file.close()
        os.close(file.fd)

    def _answer(self, number: int, addresses: list[int]) -> reader_protocol.Message:
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)  # SIGPROF ends the process
        file = self._files[number]
        self._files.move_to_end(number)
        try:
            module = self._module(file)
        except KwatchError as error:
            return {"error": str(error)}
        found = [reader_protocol.encode(module.locate(address)) for address in addresses]
        signal.setitimer(signal.ITIMER_PROF, 0)
        return {"found": found, "partial": module.pending, "resident": _resident()}

    def _module(self, file: _File) -> Module:
        if file.module is not None and file.module.is_outdated():
            file.close()
        if file.module is None:
            file.module = Module(file.fd, file.path, file.root, self._debuginfod)
        return file.module

    def _make_room(self) -> bool:
        """Closes modules that take too much memory. False if that does not free enough."""
        read = [file for file in self._files.values() if file.module is not None]
        for file in read[:-_MAX_MODULES]:
            file.close()
        if _resident() < RESIDENT_LIMIT:
            return True
        for file in read:
            file.close()
        return _resident() < RESIDENT_LIMIT


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def serve(descriptor: str) -> None:
    """Serves a socket that the parent has created. Exits with the parent."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # the OOM killer takes this process first
    with socket.socket(fileno=int(descriptor)) as sock:
        Server(sock).run()
    os._exit(0)  # does not wait for downloads
