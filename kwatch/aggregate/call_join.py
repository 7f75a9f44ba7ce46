# SPDX-License-Identifier: Apache-2.0
"""Joins the two records that a call may have: of its entry, if it got much, and of its end.

Records of one thread arrive in order. An entry whose end has not arrived is kept; the end may be in
any later batch, or lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kwatch.wire.batches import concatenated
from kwatch.wire.events import NO_PIECE, PIECES, Batch, EventType, RecordedFlag

_MAX_OPEN = 8  # entries of a thread without an end: a call, and those that signals interrupted

Places = npt.NDArray[np.int64]
Pieces = Sequence[bytes | None]

NO_PIECES: Pieces = (None,) * PIECES


class JoinedCalls(NamedTuple):
    """Calls and ends of threads, in order of time.

    `order`: the indexes of their records in `events`. `entries`: the index of the record of each
    one's entry, -1 without one. The bytes of record i begin at `starts[i]` in `data`.
    """

    order: Places
    entries: Places
    events: Batch
    starts: Places
    data: bytes

    def pieces(self) -> Iterator[Pieces]:
        """What was captured of each call, None for each piece that was not."""
        ends = self._contents(self.order)
        entered = self.entries >= 0
        entries = self._contents(self.entries[entered])
        for end, has_entry in zip(ends, entered.tolist(), strict=True):
            if not has_entry:
                yield end
                continue
            entry = next(entries)
            if end is NO_PIECES:
                yield entry
            else:
                yield [a if a is not None else b for a, b in zip(end, entry, strict=True)]

    def _contents(self, indexes: Places) -> Iterator[Pieces]:
        """The pieces of single records."""
        lengths = self.events["pieces"][indexes].astype(np.int64)
        is_there = lengths != NO_PIECE
        lengths[~is_there] = 0
        ends = self.starts[indexes, np.newaxis] + np.cumsum(lengths, axis=1)
        starts = ends - lengths
        places = zip(
            np.nonzero(is_there)[1].tolist(),
            starts[is_there].tolist(),
            ends[is_there].tolist(),
            strict=True,
        )
        data = self.data
        for count in np.count_nonzero(is_there, axis=1).tolist():
            if not count:
                yield NO_PIECES
                continue
            found: list[bytes | None] = [None] * PIECES
            for number, start, end in islice(places, count):
                found[number] = data[start:end]
            yield found


class CallJoiner:
    """Keeps the entries of calls in progress. `unmatched`: ends whose entry did not arrive."""

    def __init__(self) -> None:
        self._open: dict[int, dict[int, tuple[np.void, bytes]]] = {}  # by tid, then by seq
        self.unmatched = 0

    def join(
        self, events: Batch, starts: Places, data: bytes, among: Places | None = None
    ) -> JoinedCalls:
        """Takes a batch of records in any order, all of those before a moment.

        `among`: the indexes of these records, if `events` has later ones too.
        """
        times = np.ascontiguousarray(events["time_ns"])
        types = np.ascontiguousarray(events["type"])
        in_time = np.argsort(times, kind="stable") if among is None else _in_time(times, among)
        is_entry = types[in_time] == EventType.CALL_ENTRY
        order, began = in_time[~is_entry], in_time[is_entry]
        entries = np.full(len(order), -1, np.int64)
        flags = np.ascontiguousarray(events["flags"])
        wanting = np.flatnonzero(flags[order] & np.uint16(RecordedFlag.ENTRY))
        left = wanting
        if len(began):
            keys = _keys(events)
            began = began[np.argsort(keys[began], kind="stable")]
            at = np.searchsorted(keys[began], keys[order[wanting]])
            at[at == len(began)] = 0
            matches = keys[began[at]] == keys[order[wanting]]
            entries[wanting[matches]] = began[at[matches]]
            left = wanting[~matches]
        is_matched = np.zeros(len(events), bool)
        is_matched[entries[entries >= 0]] = True
        joined = JoinedCalls(order, entries, events, starts, data)
        joined = self._with_earlier(joined, left) if len(left) else joined
        for index in began[~is_matched[began]].tolist():
            self._keep(joined, index)
        self._forget_ended(events["tid"][order[types[order] == EventType.THREAD_END]].tolist())
        return joined

    def with_entries(self, in_progress: Batch, starts: Places, data: bytes) -> JoinedCalls:
        """Calls that have not ended, whose entries stay for their ends."""
        count = len(in_progress)
        none = np.full(count, -1, np.int64)
        joined = JoinedCalls(np.arange(count), none, in_progress, starts, data)
        flags = in_progress["flags"] & np.uint16(RecordedFlag.ENTRY)
        return self._with_earlier(joined, np.flatnonzero(flags), stay=True)

    def _with_earlier(self, joined: JoinedCalls, left: Places, stay: bool = False) -> JoinedCalls:
        """Adds the entries that came with earlier batches."""
        events: list[np.void] = []
        places, contents = [], []
        at = len(joined.data)
        for position in left.tolist():
            record = joined.events[joined.order[position]]
            of_thread, seq = self._open.get(int(record["entry_tid"]), {}), int(record["seq"])
            kept = of_thread.get(seq) if stay else of_thread.pop(seq, None)
            if kept is None:
                self.unmatched += not stay
                continue
            joined.entries[position] = len(joined.events) + len(events)
            events.append(kept[0])
            contents.append(kept[1])
            places.append(at)
            at += len(kept[1])
        if not events:
            return joined
        return joined._replace(
            events=concatenated([joined.events, np.array(events, joined.events.dtype)]),
            starts=np.concatenate([joined.starts, np.array(places, np.int64)]),
            data=b"".join([joined.data, *contents]),
        )

    def _keep(self, joined: JoinedCalls, index: int) -> None:
        record = joined.events[index].copy()
        lengths = record["pieces"][record["pieces"] != NO_PIECE]
        start = int(joined.starts[index])
        content = joined.data[start : start + int(lengths.sum(dtype=np.int64))]
        of_thread = self._open.setdefault(int(record["entry_tid"]), {})
        of_thread[int(record["seq"])] = record, content
        if len(of_thread) > _MAX_OPEN:  # their ends were lost
            del of_thread[next(iter(of_thread))]

    def _forget_ended(self, tids: list[int]) -> None:
        for tid in tids:
            self._open.pop(tid, None)


def _in_time(times: npt.NDArray[np.uint64], among: Places) -> Places:
    return among[np.argsort(times[among], kind="stable")]


def _keys(events: Batch) -> npt.NDArray[np.uint64]:
    """Identify a call among those in progress."""
    keys: npt.NDArray[np.uint64] = events["entry_tid"].astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= events["seq"]
    return keys
