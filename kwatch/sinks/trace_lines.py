# SPDX-License-Identifier: Apache-2.0
"""System calls as lines, as strace writes them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TextIO

from kwatch.model.traced_call import REQUESTS, Moment, TracedCall
from kwatch.sinks.frame_text import StackOf
from kwatch.sinks.long_calls import LongCalls
from kwatch.sinks.signal_text import signal_line, signal_name
from kwatch.syscalls.decode.formatter import Formatter
from kwatch.syscalls.decode.style import Descriptors
from kwatch.syscalls.io_uring import request_text
from kwatch.wire.events import Abi

_COLUMN = 40  # of the equals sign: strace's -a
_NS = 1_000_000_000
_MAX_ERRNO = 4095
_RED, _BOLD, _FAINT, _PLAIN = "\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class LineStyle:
    """`strings`: bytes of each string, strace's -s. `clock`: how often -t was given, 0 to 3.

    `relative`: -r. `spent`: -T. `pids`: write the thread of each line, not only while there are
    several.
    """

    strings: int = 32
    clock: int = 0
    relative: bool = False
    spent: bool = False
    pids: bool = False
    color: bool = False


class TraceLines:
    """The caller opens and closes the stream, and gets its errors (`OSError`)."""

    def __init__(
        self,
        stream: TextIO,
        style: LineStyle,
        descriptors: Descriptors | None = None,
        stack_of: StackOf | None = None,
    ) -> None:
        """`descriptors`: -y. It tells of the call that was taken last from `write`'s.

        `stack_of`: -k.
        """
        self._stack_of = stack_of
        self._stream = stream
        self._style = style
        self._texts = {int(abi): Formatter(abi, style.strings, descriptors).text for abi in Abi}
        self._long = LongCalls(has_files=descriptors is not None)
        self._threads: set[int] = set()  # that have made a call and not ended
        self._last_ns: int | None = None
        self._stamp = self._stamper()

    def write(self, calls: Iterable[TracedCall]) -> None:
        """Writes and flushes a line for each."""
        if text := "".join(map(self.line, calls)):
            self._stream.write(text)
            self._stream.flush()

    def close(self) -> None:
        self._stream.flush()

    def line(self, call: TracedCall) -> str:
        """The line of a call, with its end."""
        if call.moment not in REQUESTS:  # which may be completed after its thread's end
            self._threads.add(call.tid)
        goes_on = self._long.has(call)
        spent = call.duration_ns or 0
        head = self._pid(call.tid) + self._stamp(call.time_ns + spent * goes_on)
        if call.moment is Moment.SIGNAL:
            return f"{head}{signal_line(call.result, call.arguments)}\n"
        if call.moment is Moment.ENDED:
            self._threads.discard(call.tid)
            self._long.forget(call.tid)
            return f"{head}{_end(call.result)}\n"
        if call.moment in REQUESTS:
            return self._request(head, call)
        text = self._call(head, call)
        if self._stack_of is not None and call.moment is not Moment.BLOCKED:
            text += "".join(f" > {frame}\n" for frame in self._stack_of(call))
        return text

    def _call(self, head: str, call: TracedCall) -> str:
        is_over = call.moment is Moment.RETURNED
        arguments, result = self._texts[call.abi](
            call.nr, call.arguments, call.result if is_over else None, call.pieces
        )
        begin = self._begin(call.name)
        if call.moment is Moment.BLOCKED:
            return f"{head}{begin}{self._long.begin(call, arguments)} <unfinished ...>\n"
        if self._long.has(call):
            begin, arguments = f"<... {call.name} resumed>", self._long.rest(call, arguments)
        if call.moment is Moment.IN_PROGRESS:
            return f"{head}{begin}{arguments} <detached ...>\n"
        if not is_over:
            return f"{head}{begin}{arguments} <unfinished ...>) = ?\n"
        return self._finished(head, call, begin, arguments, result)

    def _request(self, head: str, call: TracedCall) -> str:
        begin = self._begin(call.name)
        arguments, result = request_text(call.abi, call.arguments, call.result)
        if call.moment is Moment.IO_IN_PROGRESS:
            return f"{head}{begin}{arguments} <detached ...>\n"
        return self._finished(head, call, begin, arguments, result)

    def _finished(
        self, head: str, call: TracedCall, begin: str, arguments: str, result: str
    ) -> str:
        colors = len(_BOLD + _PLAIN) if begin.startswith(_BOLD) else 0
        width = len(head) + len(begin) - colors + len(arguments) + 1
        padding = " " * max(_COLUMN - width, 1)
        return f"{head}{begin}{arguments}){padding}= {self._result(call, result)}\n"

    def _begin(self, name: str) -> str:
        return f"{_BOLD}{name}{_PLAIN}(" if self._style.color else f"{name}("

    def _result(self, call: TracedCall, result: str) -> str:
        if self._style.color and -_MAX_ERRNO <= call.result < 0:
            result = f"{_RED}{result}{_PLAIN}"
        if not self._style.spent or call.duration_ns is None:
            return result
        return f"{result} <{call.duration_ns // _NS}.{call.duration_ns % _NS // 1000:06}>"

    def _pid(self, tid: int) -> str:
        if self._style.pids:
            return f"{tid:<5} "
        return f"[pid {tid:5}] " if len(self._threads) > 1 else ""

    def _stamper(self) -> Callable[[int], str]:
        clock = _CLOCKS[self._style.clock]
        if not self._style.relative:
            return clock

        def relative(time_ns: int) -> str:
            since = time_ns - (self._last_ns if self._last_ns is not None else time_ns)
            self._last_ns = time_ns
            text = f"{since / _NS:13.6f}"
            return f"{clock(time_ns)}(+{text}) " if self._style.clock else f"{text} "

        return relative


def _end(status: int) -> str:
    """What became of a thread, from its status as wait() returns it."""
    number = os.WTERMSIG(status)
    if not number:
        return f"+++ exited with {os.WEXITSTATUS(status)} +++"
    dumped = " (core dumped)" if os.WCOREDUMP(status) else ""
    return f"+++ killed by {signal_name(number)}{dumped} +++"


def _no_clock(time_ns: int) -> str:
    return ""


class _TimeOfDay:
    """`12:00:00`, the text of the last second kept."""

    def __init__(self, micros: bool) -> None:
        self._micros = micros
        self._second, self._text = -1, ""

    def __call__(self, time_ns: int) -> str:
        second, rest = divmod(time_ns, _NS)
        if second != self._second:
            self._second, self._text = second, time.strftime("%H:%M:%S", time.localtime(second))
        return f"{self._text}.{rest // 1000:06} " if self._micros else f"{self._text} "


def _epoch(time_ns: int) -> str:
    return f"{time_ns // _NS}.{time_ns % _NS // 1000:06} "


_CLOCKS: tuple[Callable[[int], str], ...] = (_no_clock, _TimeOfDay(False), _TimeOfDay(True), _epoch)
