# SPDX-License-Identifier: Apache-2.0
"""The system calls in progress, which the BPF programs keep: see bpf/syscalls.bpf.c."""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kwatch.kernel import bpf
from kwatch.procfs.current_call import current_call
from kwatch.session.thread_slots import KeptCall, ThreadSlots
from kwatch.syscalls.names import inner_number
from kwatch.wire.events import NO_PIECE, Abi, Batch, EventType, RecordedFlag
from kwatch.wire.maps import (
    CALL_NUMBERS,
    CallFlag,
    CallInProgress,
    CallState,
    InterruptedCall,
    KeptPieces,
    RecordedCall,
)

#: The results of calls that the kernel may begin again: ERESTARTSYS to ERESTART_RESTARTBLOCK.
_RESTARTS = range(-516, -511)

_STACK = struct.Struct("Q")

#: Keeps bytes that records refer to, and returns their place.
Hold = Callable[[bytes], int]


class PendingCall(NamedTuple):
    """A traced call that has not returned. `began_earlier`: before the attach."""

    pid: int
    abi: Abi
    nr: int
    began_earlier: bool = False


class PendingCalls:
    """`flags`: the values of the map `call_flags`. `has_stacks`: each call has one."""

    def __init__(
        self, slots: ThreadSlots, interrupted: bpf.Map, flags: bytes, has_stacks: bool
    ) -> None:
        self._slots = slots
        self._interrupted = interrupted
        self._flags = flags
        self._has_stacks = has_stacks

    def pending(self) -> Iterator[PendingCall]:
        """The traced calls that have begun and not returned."""
        for held, _ in self._held():
            if held.result in _RESTARTS:
                yield PendingCall(held.call.tgid, Abi(held.call.abi), held.call.nr)
        seen = set()
        for call in self._slots.calls():
            seen.add(call.tid)
            if _is_open(call):
                yield PendingCall(call.tgid, Abi(call.abi), call.nr)
        for pid, tid in self._slots.noted():
            if tid not in seen:
                yield from self._earlier(pid, tid)

    def returned(self, dtype: np.dtype[np.void]) -> Batch:
        """The traced calls that have returned, and whose events wait for the next of their thread.

        Call this after the last event. `dtype`: of the events of system calls.
        """
        held = [each for each in self._held() if each[0].result not in _RESTARTS]
        events = np.zeros(len(held), dtype)
        for event, (interrupted, rest) in zip(events, held, strict=True):
            _describe(event, interrupted.call)
            event["type"] = EventType.SYSCALL
            event["time_ns"], event["duration_ns"] = time.monotonic_ns(), interrupted.call.time_ns
            event["result"] = interrupted.result
            if "arguments" in (dtype.names or ()):
                _describe_recorded(event, RecordedCall.from_buffer_copy(rest))
                rest = rest[ctypes.sizeof(RecordedCall) :]
            if self._has_stacks:
                event["stack"] = _STACK.unpack_from(rest)[0]
        return events

    def in_progress(self, dtype: np.dtype[np.void], hold: Hold) -> Batch:
        """The recorded calls that have begun and not returned, as records.

        Without those that began before the attach, whose arguments are not known. `dtype`: CALL.
        """
        held = [
            KeptCall(each.call, RecordedCall.from_buffer_copy(rest), KeptPieces())
            for each, rest in self._held()
            if each.result in _RESTARTS
        ]
        now = time.monotonic_ns()
        for spent in held:  # a held call has the time that it has taken so far
            spent.call.time_ns = now - spent.call.time_ns
        return as_records([*held, *self.recorded()], now, dtype, hold)

    def recorded(self) -> list[KeptCall]:
        """The recorded calls that have begun and not returned, without those that are held."""
        return [each for each in self._slots.recorded() if _is_open(each.call)]

    def _held(self) -> Iterator[tuple[InterruptedCall, bytes]]:
        """The traced calls that a signal has interrupted, with what follows their call."""
        for _, value in self._interrupted.items():
            held = InterruptedCall.from_buffer_copy(value)
            rest = value[ctypes.sizeof(held) :]
            if held.call.flags & CallFlag.TRACE:
                yield held, rest

    def _earlier(self, pid: int, tid: int) -> Iterator[PendingCall]:
        """The call that a thread is still in, if it is traced: a thread has made no other since."""
        call = current_call(pid, tid)
        if call is None:
            return
        nr = inner_number(call.abi, call.nr, call.first_argument)
        index = call.abi * CALL_NUMBERS + min(nr, CALL_NUMBERS - 1)
        if self._flags[index] & CallFlag.TRACE:
            yield PendingCall(pid, call.abi, nr, began_earlier=True)


def as_records(
    calls: Sequence[KeptCall], now_ns: int, dtype: np.dtype[np.void], hold: Hold
) -> Batch:
    """Calls in progress as records of the type `dtype`."""
    events = np.zeros(len(calls), dtype)
    for event, (call, recorded, kept) in zip(events, calls, strict=True):
        _describe(event, call)
        event["type"] = EventType.CALL_IN_PROGRESS
        event["time_ns"], event["duration_ns"] = now_ns, now_ns - call.time_ns
        _describe_recorded(event, recorded)
        if recorded.flags & RecordedFlag.KEPT:
            _describe_kept(event, kept, hold)
    return events


def _is_open(call: CallInProgress) -> bool:
    """Whether it is traced, has begun and not returned."""
    is_traced = bool(call.flags & CallFlag.TRACE) and not call.waiting
    return call.state == CallState.ENTERED and is_traced


def _describe(event: np.void, call: CallInProgress) -> None:
    event["abi"], event["nr"] = call.abi, call.nr
    event["tgid"], event["tid"] = call.tgid, call.tid


def _describe_kept(event: np.void, kept: KeptPieces, hold: Hold) -> None:
    *first, last = kept.pieces
    event["pieces"][: len(first)] = first
    event["pieces"][-1] = last
    event["flags"] ^= RecordedFlag.KEPT | RecordedFlag.BYTES
    event["place"] = hold(bytes(kept.bytes[: kept.used]))


def _describe_recorded(event: np.void, recorded: RecordedCall) -> None:
    event["arguments"], event["ip"] = list(recorded.arguments), recorded.ip
    event["seq"], event["flags"] = recorded.seq, recorded.flags
    event["pieces"], event["entry_tid"] = NO_PIECE, recorded.tid
    event["comm"], event["uid"], event["cgroup_id"] = (
        recorded.comm,
        recorded.uid,
        recorded.cgroup_id,
    )
