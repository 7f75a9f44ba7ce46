# SPDX-License-Identifier: Apache-2.0
"""Calls with two lines, as strace writes them: one while they are blocked, one when they return.

[pid 4711] read(0,  <unfinished ...>
[pid 4711] <... read resumed>"x", 1)     = 1
"""

from __future__ import annotations

import functools

from kwatch.model.traced_call import TracedCall
from kwatch.sinks.argument_texts import argument_texts
from kwatch.syscalls import calls
from kwatch.wire.events import Abi

_ALL = 6


class LongCalls:
    """`has_files`: arguments are shown with what descriptors refer to."""

    def __init__(self, has_files: bool) -> None:
        self._has_files = has_files
        self._seq: dict[int, int] = {}  # of the blocked call of each thread

    def has(self, call: TracedCall) -> bool:
        """Whether the call has its first line."""
        return self._seq.get(call.entry_tid) == call.seq

    def begin(self, call: TracedCall, arguments: str) -> str:
        """What the first line has: the arguments before the first one that the call fills in."""
        self._seq[call.entry_tid] = call.seq
        parts = argument_texts(arguments, self._has_files)
        shown = parts[: _known(call)]
        return ", ".join(shown) + ", " * (0 < len(shown) < len(parts))

    def rest(self, call: TracedCall, arguments: str) -> str:
        """What the second line has. The call is forgotten."""
        self._seq.pop(call.entry_tid, None)
        return ", ".join(argument_texts(arguments, self._has_files)[_known(call) :])

    def forget(self, tid: int) -> None:
        """The thread has ended."""
        self._seq.pop(tid, None)


def _known(call: TracedCall) -> int:
    return _known_at_entry(Abi(call.abi), call.nr)


@functools.cache
def _known_at_entry(abi: Abi, nr: int) -> int:
    """How many arguments strace shows at the entry: those before the first pure output."""
    call = calls.call(abi, nr)
    if call is None:
        return _ALL
    kinds = [argument.kind for argument in call.arguments]
    outputs = (i for i, kind in enumerate(kinds) if kind.is_written and not kind.is_read)
    return next(outputs, _ALL)
