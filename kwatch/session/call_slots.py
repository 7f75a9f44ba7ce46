# SPDX-License-Identifier: Apache-2.0
"""The threads' system calls in progress, which the BPF programs keep: see bpf/syscalls.bpf.c."""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from kwatch.kernel import bpf
from kwatch.procfs.current_call import current_call, is_alive, thread_ids
from kwatch.syscalls.names import inner_number
from kwatch.wire.events import Abi, Batch, EventType
from kwatch.wire.maps import CALL_NUMBERS, CallFlag, CallInProgress, CallState, InterruptedCall

#: The results of calls that the kernel may begin again: ERESTARTSYS to ERESTART_RESTARTBLOCK.
_RESTARTS = range(-516, -511)

_STACK = struct.Struct("Q")


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
        for held, _ in self._held():
            if held.result in _RESTARTS:
                yield PendingCall(held.call.tgid, Abi(held.call.abi), held.call.nr)
        for _, value in self._calls.items():
            call = CallInProgress.from_buffer_copy(value)
            is_traced = call.flags & CallFlag.TRACE and not call.waiting
            if call.state == CallState.BEGAN_EARLIER:
                yield from self._earlier(call.tgid, call.tid)
            elif call.state == CallState.ENTERED and is_traced:
                yield PendingCall(call.tgid, Abi(call.abi), call.nr)

    def returned(self, dtype: np.dtype[np.void]) -> Batch:
        """The traced calls that have returned, and whose events wait for the next of their thread.

        Call this after the last event. `dtype`: of the events of system calls.
        """
        held = [each for each in self._held() if each[0].result not in _RESTARTS]
        events = np.zeros(len(held), dtype)
        for event, (interrupted, stack) in zip(events, held, strict=True):
            call = interrupted.call
            event["type"], event["abi"], event["nr"] = EventType.SYSCALL, call.abi, call.nr
            event["tgid"], event["tid"] = call.tgid, call.tid
            event["time_ns"], event["duration_ns"] = time.monotonic_ns(), call.time_ns
            event["result"] = interrupted.result
            if "stack" in (dtype.names or ()):
                event["stack"] = stack
        return events

    def _held(self) -> Iterator[tuple[InterruptedCall, int]]:
        """The traced calls that a signal has interrupted, with their stacks."""
        for _, value in self._interrupted.items():
            held = InterruptedCall.from_buffer_copy(value)
            rest = value[ctypes.sizeof(held) :]
            if held.call.flags & CallFlag.TRACE:
                yield held, _STACK.unpack_from(rest)[0] if rest else 0

    def _earlier(self, pid: int, tid: int) -> Iterator[PendingCall]:
        """The call that a thread is still in, if it is traced: a thread has made no other since."""
        call = current_call(pid, tid)
        if call is None:
            return
        nr = inner_number(call.abi, call.nr, call.first_argument)
        index = call.abi * CALL_NUMBERS + min(nr, CALL_NUMBERS - 1)
        if self._flags[index] & CallFlag.TRACE:
            yield PendingCall(pid, call.abi, nr, began_earlier=True)
