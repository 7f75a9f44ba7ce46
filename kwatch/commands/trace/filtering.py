# SPDX-License-Identifier: Apache-2.0
"""Chooses among traced calls. The kernel has dropped some already, but not all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kwatch.commands.trace.options import OutputOptions
from kwatch.model.traced_call import Moment, TracedCall
from kwatch.syscalls.filter.call import Call
from kwatch.syscalls.filter.expression import Expression, comparisons
from kwatch.syscalls.filter.predicate import predicate
from kwatch.syscalls.first_arguments import first_words

_MAX_ERRNO = 4095
_CALLS = (Moment.RETURNED, Moment.UNFINISHED, Moment.IN_PROGRESS, Moment.BLOCKED)
_SIGN, _INT_SIGN = 1 << 63, 1 << 31


class CallFilter:
    """Only calls pass: no signals, and no ends of threads."""

    def __init__(self, expression: Expression) -> None:
        self._is_true = predicate(expression)
        self._needs_cgroup = any(each.field.name == "cgroup" for each in comparisons(expression))
        self._cgroups: dict[int, bytes | None] = {}

    def chosen(self, calls: Iterable[TracedCall]) -> Iterator[TracedCall]:
        return filter(self.accepts, calls)

    def accepts(self, call: TracedCall) -> bool:
        return call.moment in _CALLS and self._is_true(self._seen(call))

    def _seen(self, call: TracedCall) -> Call:
        fd, path = first_words(call.abi, call.nr)
        arguments = call.arguments
        returned = call.moment is Moment.RETURNED and call.duration_ns is not None
        return Call(
            call.pid,
            call.entry_tid,
            call.comm,
            call.uid,
            call.cgroup_id,
            call.name,
            signed(arguments),
            call.result if returned else None,
            call.duration_ns if returned else None,
            self._cgroup(call.pid) if self._needs_cgroup else None,
            None if fd is None else (arguments[fd] + _INT_SIGN) % (2 * _INT_SIGN) - _INT_SIGN,
            None if path is None else _text(call.pieces[path]),
        )

    def _cgroup(self, pid: int) -> bytes | None:
        """As it is when the first call of the process is read; None if it had ended by then."""
        if pid not in self._cgroups:
            self._cgroups[pid] = _read_cgroup(pid)
        return self._cgroups[pid]


def wanted(calls: Iterable[TracedCall], options: OutputOptions) -> Iterator[TracedCall]:
    """Those that -z and -Z leave."""
    if not (options.failed_only or options.successful_only):
        yield from calls
        return
    for call in calls:
        if call.moment in (Moment.SIGNAL, Moment.ENDED):
            yield call
        elif call.moment is Moment.IO_REQUEST or (
            call.moment is Moment.RETURNED and call.duration_ns is not None
        ):
            has_failed = -_MAX_ERRNO <= call.result < 0
            if has_failed == options.failed_only:
                yield call


def signed(words: list[int]) -> tuple[int, int, int, int, int, int]:
    """Registers as signed numbers of 64 bits."""
    a, b, c, d, e, f = ((word + _SIGN) % (2 * _SIGN) - _SIGN for word in words)
    return a, b, c, d, e, f


def _text(piece: bytes | None) -> bytes | None:
    return None if piece is None else piece.partition(b"\0")[0]


def _read_cgroup(pid: int) -> bytes | None:
    """The path in version 2's hierarchy."""
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    return next((line[3:] for line in lines if line.startswith(b"0::")), None)
