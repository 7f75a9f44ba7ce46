# SPDX-License-Identifier: Apache-2.0
"""Makes traced calls of the records that a session reads."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np

from kwatch.aggregate.call_join import CallJoiner, JoinedCalls
from kwatch.model.traced_call import REQUESTS, Moment, TracedCall
from kwatch.processes.process import Process
from kwatch.programs.sources import SYSCALLS
from kwatch.rings.call_areas import CallAreas, CallBytes, merged, selected
from kwatch.symbols.stack import Stack
from kwatch.syscalls import names
from kwatch.syscalls.io_uring import UNKNOWN_OPCODE, request_name
from kwatch.syscalls.vector_ends import clear_vector_ends
from kwatch.wire.batches import chosen
from kwatch.wire.events import Abi, Batch, EventType, RecordedFlag

_MOMENTS = {
    EventType.SYSCALL: Moment.RETURNED,
    EventType.SYSCALL_UNFINISHED: Moment.UNFINISHED,
    EventType.CALL_IN_PROGRESS: Moment.IN_PROGRESS,
    EventType.SIGNAL: Moment.SIGNAL,
    EventType.THREAD_END: Moment.ENDED,
    EventType.IO_REQUEST: Moment.IO_REQUEST,
    EventType.IO_IN_PROGRESS: Moment.IO_IN_PROGRESS,
}
_LOST = int(RecordedFlag.LOST)  # an operation on a flag takes a microsecond


class CallStream:
    """An observer that keeps a session's records until they are taken.

    `areas` is asked for at the first record: the session exists by then.
    """

    def __init__(self, areas: Callable[[], CallAreas]) -> None:
        self._areas = areas
        self._parts: list[CallBytes] = []
        self._joiner = CallJoiner()
        self._names: dict[tuple[int, int], str] = {}
        self._never_return = {
            abi: names.numbers(abi, "exit") | names.numbers(abi, "exit_group") for abi in Abi
        }

    def on_batch(self, source: str, batch: Batch) -> None:
        if source == SYSCALLS and len(batch):
            records = self._areas().copy(batch)
            clear_vector_ends(*records)
            self._parts.append(records)

    def on_stack(self, process: Process, identity: int, stack: Stack) -> None:
        """Takes no stacks."""

    def take(self, before_ns: float = math.inf) -> JoinedCalls:
        """The calls that have ended before a moment, in order of their return.

        Those of the last time are left out. Records with later times stay for the next time.
        """
        parts, self._parts = self._parts, []
        records = merged(parts)
        is_later = records.events["time_ns"] >= before_ns
        if not is_later.any():
            return self._joiner.join(records.events, records.starts, records.data.tobytes())
        self._parts.append(selected(records, is_later))
        among = np.flatnonzero(~is_later)
        return self._joiner.join(records.events, records.starts, records.data.tobytes(), among)

    def calls(self, joined: JoinedCalls) -> Iterator[TracedCall]:
        """The calls in the same order."""
        clock = time.time_ns() - time.monotonic_ns()
        records = chosen(joined.events, joined.order)
        columns = [
            records[field].tolist()
            for field in (
                *("type", "tgid", "tid", "abi", "nr", "time_ns", "duration_ns", "result"),
                *("arguments", "ip", "flags", "comm", "uid", "cgroup_id", "entry_tid", "stack"),
                "seq",
            )
        ]
        rows = zip(joined.pieces(), *columns, strict=True)
        for pieces, kind, pid, tid, abi, nr, at, took, result, *rest in rows:
            words, ip, flags, comm, uid, cgroup_id, entry_tid, stack, seq = rest
            moment = _MOMENTS[kind]
            is_request = moment in REQUESTS
            is_timed = moment is not Moment.RETURNED or nr not in self._never_return[abi]
            if is_request:
                is_timed = nr != UNKNOWN_OPCODE
            yield TracedCall(
                moment,
                pid,
                tid,
                comm,
                abi,
                nr,
                request_name(nr) if is_request else self._name(abi, nr),
                at - took + clock,
                took if is_timed else None,
                result,
                words,
                pieces,
                ip,
                flags & _LOST > 0,
                uid,
                cgroup_id,
                entry_tid,
                stack,
                seq,
            )

    def blocked(self, in_progress: CallBytes) -> Iterator[TracedCall]:
        """Calls in progress, whose ends will be among those that `take` returns."""
        clear_vector_ends(*in_progress)
        events, starts, data = in_progress
        for call in self.calls(self._joiner.with_entries(events, starts, data.tobytes())):
            yield call._replace(moment=Moment.BLOCKED)

    def _name(self, abi: int, nr: int) -> str:
        found = self._names.get((abi, nr))
        if found is None:
            found = self._names[abi, nr] = names.name(Abi(abi), nr)
        return found
