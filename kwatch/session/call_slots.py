# SPDX-License-Identifier: Apache-2.0
"""The threads' system calls in progress, which the BPF programs keep: see bpf/syscalls.bpf.c."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kwatch.kernel import bpf
from kwatch.procfs.current_call import current_call, is_alive, thread_ids
from kwatch.syscalls.names import inner_number
from kwatch.wire.events import Abi
from kwatch.wire.maps import CALL_NUMBERS, CallFlag, CallInProgress, CallState, InterruptedCall

#: The results of calls that the kernel may begin again: ERESTARTSYS to ERESTART_RESTARTBLOCK.
_RESTARTS = range(-516, -511)


class PendingCall(NamedTuple):
    """A traced call that has not returned. `began_earlier`: before the attach."""

    pid: int
    abi: Abi
    nr: int
    began_earlier: bool = False


class CallSlots:
    """`flags`: the values of the map `call_flags`."""

    def __init__(self, maps: Mapping[str, bpf.Map], flags: bytes) -> None:
        self._calls = maps["calls"]
        self._interrupted = maps["interrupted_calls"]
        self._flags = flags

    def mark_threads(self, pid: int) -> None:
        """Notes which threads of a new target are in a call, whose return does not count.

        A thread without a slot, and without a note, is taken to be in one when its next call
        returns: a call that a filter has refused would not count.
        """
        for tid in thread_ids(pid):
            call = current_call(pid, tid)
            state = CallState.NONE if call is None else CallState.BEGAN_EARLIER
            key = struct.pack("I", tid)
            try:
                added = self._calls.add(key, bytes(CallInProgress(tgid=pid, tid=tid, state=state)))
            except OSError:
                return  # the map is full: calls of more threads count as lost
            if added and not is_alive(pid, tid):
                self._calls.delete(key)

    def pending(self) -> Iterator[PendingCall]:
        """The traced calls that have begun and not returned."""
        for _, value in self._interrupted.items():
            interrupted = InterruptedCall.from_buffer_copy(value)
            call, is_pending = interrupted.call, interrupted.result in _RESTARTS
            if is_pending and call.flags & CallFlag.TRACE:
                yield PendingCall(call.tgid, Abi(call.abi), call.nr)
        for _, value in self._calls.items():
            call = CallInProgress.from_buffer_copy(value)
            is_traced = call.flags & CallFlag.TRACE and not call.waiting
            if call.state == CallState.BEGAN_EARLIER:
                yield from self._earlier(call.tgid, call.tid)
            elif call.state == CallState.ENTERED and is_traced:
                yield PendingCall(call.tgid, Abi(call.abi), call.nr)

    def _earlier(self, pid: int, tid: int) -> Iterator[PendingCall]:
        """The call that a thread is still in, if it is traced: a thread has made no other since."""
        call = current_call(pid, tid)
        if call is None:
            return
        nr = inner_number(call.abi, call.nr, call.first_argument)
        index = call.abi * CALL_NUMBERS + min(nr, CALL_NUMBERS - 1)
        if self._flags[index] & CallFlag.TRACE:
            yield PendingCall(pid, call.abi, nr, began_earlier=True)
