# SPDX-License-Identifier: Apache-2.0
"""Calls of a process, as lines with what their descriptors refer to."""

from __future__ import annotations

from kwatch.descriptors.descriptors import Descriptors, Open
from kwatch.descriptors.file import AT_FDCWD
from kwatch.descriptors.source import NoSource
from kwatch.model.traced_call import Moment, TracedCall
from kwatch.syscalls import names
from kwatch.syscalls.decode.formatter import NO_PIECES, Formatter
from kwatch.wire.events import Abi


class Source(NoSource):
    """Knows what the test says of (pid, descriptor), of inodes and of parents."""

    def __init__(self, found=(), sockets=(), parents=()):
        self.found, self.sockets, self.parents = dict(found), dict(sockets), dict(parents)
        self.asked = []

    def descriptor(self, pid, fd, at_ns):
        self.asked.append((pid, fd))
        return self.found.get((pid, fd))

    def endpoints(self, inode):
        return self.sockets.get(inode)

    def protocol(self, pid, fd, at_ns):
        return "TCP"

    def device(self, pid, path):
        return {"/dev/null": "char 1:3"}.get(path)

    def parent(self, pid):
        return self.parents.get(pid)


class Story:
    """Each call is a line, as `kwatch trace -y` shows it."""

    def __init__(self, source=None, details=False):
        self.descriptors = Descriptors(source or Source(), details)
        self._formatter = Formatter(Abi.X86_64, descriptors=self.descriptors)
        opened = {0: "/dev/null", 1: "pipe:[11]", AT_FDCWD: "/home"}
        self.descriptors.seed(100, {fd: Open(text, True) for fd, text in opened.items()})
        self._now = 0

    def call(self, name, *words, result=0, pid=100, moment=Moment.RETURNED, back=0, **pieces):
        """`in1=`, `out1=`: what a register points to, before and after; `nested=`: the chunks.

        `back`: the call began so long before.
        """
        known = list(NO_PIECES)
        known[-1] = pieces.pop("nested", None)
        for place, data in pieces.items():
            known[int(place[-1]) + 6 * place.startswith("out")] = data
        self._now += 10
        nr = names.number(Abi.X86_64, name)
        registers = [*(word & (1 << 64) - 1 for word in words), *[0] * (6 - len(words))]
        call = TracedCall(
            moment,
            pid,
            pid,
            b"x",
            Abi.X86_64,
            nr,
            name,
            self._now - back,
            5 + back,
            result,
            registers,
            known,
        )
        for each in self.descriptors.follow([call]):
            arguments, end = self._formatter.text(each.nr, registers, result, known)
        return f"{name}({arguments}) = {end}"

    def request(self, name, pid=100):
        """Of io_uring."""
        self._now += 10
        moment, words = Moment.IO_REQUEST, [0] * 6
        request = TracedCall(
            moment, pid, pid, b"x", Abi.X86_64, 0, name, self._now, 5, 0, words, NO_PIECES
        )
        list(self.descriptors.follow([request]))

    def open(self, path, fd, flags=0, directory=AT_FDCWD, **more):
        data = path.encode(errors="surrogateescape") + b"\0"
        return self.call("openat", directory, 8, flags, result=fd, in1=data, **more)

    def read(self, fd, **more):
        return self.call("read", fd, 0, 0, **more).partition(", NULL")[0].removeprefix("read(")

    def socket(self, fd, family=2, kind=1):
        return self.call("socket", family, kind, 0, result=fd)
