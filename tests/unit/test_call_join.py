# SPDX-License-Identifier: Apache-2.0
"""The entry and the end of a call are joined, whatever batches they come with."""

from __future__ import annotations

import numpy as np
from harness.records import call_record
from hypothesis import given
from hypothesis import strategies as st

from kwatch.aggregate.call_join import CallJoiner
from kwatch.wire.events import CALL, EventType, RecordedFlag

ENTRY, END = EventType.CALL_ENTRY, EventType.SYSCALL


class Batches:
    """Joins records, each with its bytes, batch by batch."""

    def __init__(self):
        self.joiner = CallJoiner()

    def join(self, *records):
        """The calls: their seq, and their pieces that were captured, by number."""
        events, starts, data = [], [], b""
        for fields, contents in records:
            lengths = {number: len(content) for number, content in contents.items()}
            events.append(call_record(lengths, **fields))
            starts.append(len(data))
            data += b"".join(contents[number] for number in sorted(contents))
        batch = np.array(events, CALL)
        joined = self.joiner.join(batch, np.array(starts, np.int64), data)
        found = []
        for index, pieces in zip(joined.order.tolist(), joined.pieces(), strict=True):
            captured = {i: piece for i, piece in enumerate(pieces) if piece is not None}
            found.append((int(joined.events["seq"][index]), captured))
        return found


def entry(time_ns, seq, contents, tid=1):
    return {"type": ENTRY, "time_ns": time_ns, "seq": seq, "tid": tid}, contents


def end(time_ns, seq, contents=(), tid=1, has_entry=True):
    fields = {"type": END, "time_ns": time_ns, "seq": seq, "tid": tid}
    return fields | {"flags": RecordedFlag.ENTRY * has_entry}, dict(contents)


def test_what_a_call_got_and_what_it_gave():
    found = Batches().join(entry(1, 7, {1: b"/etc"}), end(2, 7, {6: b"stat"}))
    assert found == [(7, {1: b"/etc", 6: b"stat"})]


def test_a_piece_that_was_read_again_replaces_the_first():
    found = Batches().join(entry(1, 7, {1: b"/et"}), end(2, 7, {1: b"/etc\0"}))
    assert found == [(7, {1: b"/etc\0"})]


def test_an_end_in_a_later_batch():
    batches = Batches()
    assert batches.join(entry(1, 7, {1: b"a", 2: b"bc"}), end(2, 1, has_entry=False)) == [(1, {})]
    assert batches.join(end(3, 9, has_entry=False, tid=2)) == [(9, {})]
    assert batches.join(end(4, 7)) == [(7, {1: b"a", 2: b"bc"})]
    assert batches.joiner.unmatched == 0


def test_a_call_that_a_signal_interrupts_stays_open_during_those_of_the_handler():
    batches = Batches()
    batches.join(entry(1, 1, {0: b"outer"}))
    assert batches.join(entry(2, 2, {0: b"inner"}), end(3, 2)) == [(2, {0: b"inner"})]
    assert batches.join(end(4, 1)) == [(1, {0: b"outer"})]


def test_a_thread_with_the_tid_of_one_that_has_ended():
    batches = Batches()
    batches.join(
        entry(1, 0, {0: b"old"}), ({"type": EventType.THREAD_END, "time_ns": 2, "tid": 1}, {})
    )
    assert batches.join(end(3, 0)) == [(0, {})]
    assert batches.joiner.unmatched == 1


def test_an_exec_by_another_thread_than_the_first():
    """Its end has the tid of the first thread, and may be that thread's number, too."""
    batches = Batches()
    batches.join(entry(1, 7, {0: b"/bin/sh\0"}, tid=11))
    fields, contents = end(2, 7, tid=10)
    assert batches.join((fields | {"entry_tid": 11}, contents)) == [(7, {0: b"/bin/sh\0"})]


def test_calls_of_all_cpus_in_order_of_their_return():
    ends = [end(time_ns, seq, has_entry=False) for time_ns, seq in [(3, 1), (5, 2), (2, 3), (4, 4)]]
    assert [seq for seq, _ in Batches().join(*ends)] == [3, 1, 4, 2]


def test_entries_whose_ends_were_lost_do_not_pile_up():
    batches = Batches()
    for seq in range(1000):
        batches.join(entry(seq, seq, {0: b"x"}))
    assert batches.join(end(2000, 999)) == [(999, {0: b"x"})]
    assert batches.join(end(2001, 0)) == [(0, {})]


@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.binary(max_size=3)), max_size=30),
    st.data(),
)
def test_no_split_into_batches_changes_a_call(calls, data):
    """Threads take turns; each call begins and ends before the next one of its thread."""
    records, expected, open_calls = [], [], {}
    for seq, (tid, has_entry, content) in enumerate(calls):
        if tid in open_calls:
            records.append(open_calls.pop(tid))
        if has_entry:
            records.append(entry(len(records), seq, {3: content}, tid))
        open_calls[tid] = end(0, seq, {9: b"out"}, tid, has_entry)
        expected.append((seq, {9: b"out"} | ({3: content} if has_entry else {})))
    records += open_calls.values()
    for time_ns, (fields, _) in enumerate(records):
        fields["time_ns"] = time_ns
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=5)))
    batches, found = Batches(), []
    for first, last in zip([0, *cuts], [*cuts, len(records)], strict=True):
        found += batches.join(*records[first:last])
    assert sorted(found, key=lambda call: call[0]) == expected
