# SPDX-License-Identifier: Apache-2.0
"""System calls as JSON, one object per line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import TextIO

from kwatch.model.traced_call import REQUESTS, Moment, TracedCall
from kwatch.sinks.argument_texts import argument_texts
from kwatch.sinks.frame_text import StackOf
from kwatch.syscalls.decode.formatter import Formatter
from kwatch.syscalls.decode.sets import named_set
from kwatch.syscalls.decode.style import Descriptors
from kwatch.wire.events import Abi

_MAX_ERRNO = 4095
_SIGNED = 1 << 63


class TraceJson:
    """The caller opens and closes the stream, and gets its errors (`OSError`)."""

    def __init__(
        self,
        stream: TextIO,
        strings: int,
        descriptors: Descriptors | None = None,
        stack_of: StackOf | None = None,
    ) -> None:
        """`strings`: bytes of each string, strace's -s. The others are as in TraceLines."""
        self._stack_of = stack_of
        self._stream = stream
        self._has_files = descriptors is not None
        self._formatters = {abi: Formatter(abi, strings, descriptors) for abi in Abi}

    def write(self, calls: Iterable[TracedCall]) -> None:
        """Writes and flushes an object for each."""
        if text := "".join(f"{json.dumps(self._object(call))}\n" for call in calls):
            self._stream.write(text)
            self._stream.flush()

    def close(self) -> None:
        self._stream.flush()

    def _object(self, call: TracedCall) -> dict[str, object]:
        found: dict[str, object] = {
            "kind": _KINDS[call.moment],
            "ts_ns": call.time_ns,
            "pid": call.pid,
            "tid": call.tid,
            "comm": os.fsdecode(call.comm),
        }
        if call.moment is Moment.SIGNAL:
            return {**found, "signal": call.result}
        if call.moment is Moment.ENDED:
            return {**found, "status": call.result}
        if call.moment in REQUESTS:
            return {**found, **self._request(call)}
        is_over = call.moment is Moment.RETURNED and call.duration_ns is not None
        arguments, _ = self._formatters[Abi(call.abi)].text(
            call.nr, call.arguments, call.result if is_over else None, call.pieces
        )
        has_failed = is_over and -_MAX_ERRNO <= call.result < 0
        words = [word - 2 * _SIGNED if word >= _SIGNED else word for word in call.arguments]
        return {
            **found,
            "duration_ns": call.duration_ns,
            "name": call.name,
            "nr": call.nr,
            "abi": Abi(call.abi).name.lower(),
            "ret": call.result if is_over else None,
            "error": _error_name(call.abi, -call.result) if has_failed else None,
            "args": argument_texts(arguments, self._has_files),
            **{f"arg{i}": word for i, word in enumerate(words)},
            "ip": call.ip,
            "content_lost": call.is_cut,
            **({"stack": list(self._stack_of(call))} if self._stack_of is not None else {}),
        }

    def _request(self, call: TracedCall) -> dict[str, object]:
        is_over = call.moment is Moment.IO_REQUEST
        has_failed = is_over and -_MAX_ERRNO <= call.result < 0
        user_data, flags, cqe_flags = call.arguments[:3]
        return {
            "duration_ns": call.duration_ns,
            "name": call.name,
            "ret": call.result if is_over else None,
            "error": _error_name(call.abi, -call.result) if has_failed else None,
            "user_data": user_data,
            "flags": flags,
            "cqe_flags": cqe_flags,
        }


def _error_name(abi: int, number: int) -> str:
    """The name; the number for one without."""
    texts = named_set("errno", Abi(abi))
    assert texts is not None
    return texts[number]


_KINDS = {
    Moment.RETURNED: "call",
    Moment.UNFINISHED: "unfinished",
    Moment.IN_PROGRESS: "in progress",
    Moment.SIGNAL: "signal",
    Moment.ENDED: "exit",
    Moment.IO_REQUEST: "io_uring",
    Moment.IO_IN_PROGRESS: "io_uring in progress",
}
