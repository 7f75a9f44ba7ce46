# SPDX-License-Identifier: Apache-2.0
"""When calls may have changed what a descriptor refers to.

What /proc says of a descriptor is true of an earlier time if no such call lies between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from kwatch.descriptors.arguments import int_of
from kwatch.descriptors.file import AT_FDCWD
from kwatch.descriptors.opening import OPENING, opened
from kwatch.model.traced_call import Moment, TracedCall

_LAST = 0x7FFFFFFF
_EBADF = 9
#: Requests of io_uring whose descriptors are unknown.
_REQUESTS = frozenset(
    f"io_uring:{name}"
    for name in ("?", "accept", "close", "openat", "openat2", "socket", "recvmsg", "pipe")
) | {"io_uring:fixed_fd_install"}
_EXECS = frozenset(["execve", "execveat"])
_OTHERS = frozenset(["close", "close_range", "chdir", "fchdir"])
_NAMES = frozenset(OPENING) | _OTHERS | _EXECS | _REQUESTS


class Changes:
    """Of all processes, in the given calls. Times are CLOCK_REALTIME in ns."""

    def __init__(self, calls: Iterable[TracedCall] = ()) -> None:
        self._single: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        self._ranges: defaultdict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
        for call in calls:
            if call.name in _NAMES and call.moment in (Moment.RETURNED, Moment.IO_REQUEST):
                self._note(call)

    def lies_between(self, pid: int, fd: int, after_ns: int, before_ns: int) -> bool:
        """Whether a change ends after the one time and begins before the other."""
        for begin, end in self._single.get((pid, fd), ()):
            if end > after_ns and begin < before_ns:
                return True
        return any(
            first <= fd <= last and end > after_ns and begin < before_ns
            for begin, end, first, last in self._ranges.get(pid, ())
        )

    def _note(self, call: TracedCall) -> None:
        end = call.time_ns + (call.duration_ns or 0)
        # Until an exec returns, its program opens nothing.
        time = end if call.name in _EXECS else call.time_ns, end
        changed = _range(call)
        if changed is not None:
            self._ranges[call.pid].append((*time, *changed))
        for fd in _single(call):
            self._single[call.pid, fd].append(time)


def may_change_any(call: TracedCall) -> bool:
    """Whether it is a request of io_uring that changes a descriptor that it does not tell."""
    return call.moment is Moment.IO_REQUEST and call.name in _REQUESTS


def _range(call: TracedCall) -> tuple[int, int] | None:
    """The first and the last descriptor of those that a call may have changed."""
    if may_change_any(call):
        return 0, _LAST
    if call.result == 0 and call.name in _EXECS:
        return 0, _LAST
    if call.result == 0 and call.name == "close_range":
        return call.arguments[0] & 0xFFFFFFFF, call.arguments[1] & 0xFFFFFFFF
    return None


def _single(call: TracedCall) -> tuple[int, ...]:
    if call.name == "close":
        return (int_of(call, 0),) if call.result != -_EBADF else ()
    if call.name in ("chdir", "fchdir"):
        return (AT_FDCWD,) if call.result == 0 else ()
    return opened(call) if call.name in OPENING else ()
