# SPDX-License-Identifier: Apache-2.0
"""HeapAccount compared with a dict, on random events in random batches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from harness.records import heap_record, typed
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.aggregate import HeapAccount
from kwatch.wire.events import HEAP, EventType, count_events

THREADS = 3
ADDRESSES = [0x5555_0000_0010 + 16 * i for i in range(5)] + [0x7FFF_0000_0010]

ACTIONS = st.tuples(
    st.sampled_from(["alloc", "free", "fail", "map", "realloc", "realloc that fails"]),
    st.integers(1, THREADS),
    st.sampled_from(ADDRESSES),
    st.integers(0, 1000),
)


class Program:
    """Turns actions into possible events. The next action of a thread in realloc ends it."""

    def __init__(self):
        self.events = []
        self.in_realloc = {}  # tid: (address, whether it will fail)

    def act(self, action, tid, address, size):
        if tid in self.in_realloc:
            self.end_realloc(tid, address, size)
        elif action == "map":
            self.emit(EventType.MAP, tid, address, size)
        elif action == "fail":
            self.emit(EventType.ALLOC_FAILED, tid, 0, size)
        elif address in self.held():
            return
        elif action == "alloc":
            self.emit(EventType.ALLOC, tid, address, size)
        elif action == "free":
            self.emit(EventType.FREE, tid, address, 0)
        else:
            self.emit(EventType.REALLOC_RELEASE, tid, address, 0)
            self.in_realloc[tid] = (address, action == "realloc that fails")

    def held(self):
        """No thread can get or end a block that a failing realloc will restore."""
        return {address for address, fails in self.in_realloc.values() if fails}

    def end_realloc(self, tid, address, size):
        old, fails = self.in_realloc[tid]
        if fails:
            self.emit(EventType.MAP, tid, address, size)
            self.emit(EventType.REALLOC_KEEP, tid, old, 0)
            self.emit(EventType.ALLOC_FAILED, tid, 0, size)
        elif address in self.held():
            return
        elif size % 10:  # else it freed the block, or its result was filtered out
            self.emit(EventType.ALLOC, tid, address, size)
        del self.in_realloc[tid]

    def emit(self, kind, tid, address, size):
        time = len(self.events)
        fields = {"type": kind, "tid": tid, "time_ns": time, "address": address, "size": size}
        self.events.append(fields | {"stack": time % 4, "tgid": 1})

    def batch(self, begin=0, end=None):
        return np.array([heap_record(**event) for event in self.events[begin:end]], HEAP)


class Model:
    """The model: takes one event at a time."""

    def __init__(self):
        self.live = {}
        self.undo = {}  # tid: the state before its last event, a release
        self.counts = dict.fromkeys(("allocs", "frees", "unknown", "superseded", "failed"), 0)

    def take(self, event):
        kind, tid, time, address, size, stack, _ = event.values()
        if kind == EventType.ALLOC_FAILED:
            self.counts["failed"] += 1
        if kind in (EventType.ALLOC_FAILED, EventType.MAP):
            return
        undo = self.undo.pop(tid, None)
        if kind == EventType.ALLOC:
            self.counts["allocs"] += 1
            self.counts["superseded"] += address in self.live
            self.live[address] = (size, stack, time)
        elif kind == EventType.REALLOC_KEEP:
            if undo is not None:
                self.put_back(address, undo)
        else:
            block = self.live.pop(address, None)
            self.counts["unknown" if block is None else "frees"] += 1
            if kind == EventType.REALLOC_RELEASE:
                self.undo[tid] = (block,)

    def put_back(self, address, undo):
        (block,) = undo
        self.counts["unknown" if block is None else "frees"] -= 1
        if block is not None:
            self.live[address] = block


def state_of(account):
    stats = account.snapshot(0)
    counts = {
        "allocs": stats.allocs,
        "frees": stats.frees,
        "unknown": stats.unknown_frees,
        "superseded": account.superseded,
        "failed": stats.failed_allocs,
    }
    blocks = zip(*(column.tolist() for column in account.live_blocks()), strict=True)
    assert stats.live_bytes == sum(account.live_blocks().sizes.tolist())
    return counts, {address: tuple(rest) for address, *rest in blocks}


@settings(max_examples=500, deadline=None)
@given(st.lists(ACTIONS, max_size=60), st.lists(st.integers(0, 120), max_size=6))
def test_batches_give_what_single_events_give(actions, cuts):
    program, model, account = Program(), Model(), HeapAccount()
    for action in actions:
        program.act(*action)
    bounds = sorted({0, len(program.events), *(c for c in cuts if c < len(program.events))})
    for begin, end in pairwise(bounds):
        account.add(*typed(program.batch(begin, end)))
        for event in program.events[begin:end]:
            model.take(event)
        assert state_of(account) == (model.counts, model.live)


def pairs_of(events, chosen):
    """Allocations whose block ends at the next event of its address; and of that."""
    last, pairs = {}, {}
    for index, event in enumerate(events):
        before = last.get(event["address"])
        is_pair = before is not None and events[before]["type"] == EventType.ALLOC
        if is_pair and event["type"] == EventType.FREE and chosen():
            pairs[before] = index
        if event["type"] <= EventType.REALLOC_KEEP:
            last[event["address"]] = index
    return pairs


def summed(events, pairs):
    """What the kernel sends if these pairs have no events: their sums, and their addresses."""
    left, later = [], set()  # later: addresses that are known to be used again
    for index in sorted(set(range(len(events))) - set(pairs.values()), reverse=True):
        event = events[index]
        if index not in pairs:
            later -= {event["address"]} if event["type"] == EventType.FREE else set()
        elif event["address"] in later:
            continue
        else:
            later.add(event["address"])
            event = event | {"type": EventType.REUSED, "tid": 0, "size": 0, "stack": 0}
        left.insert(0, event)
    for stack in range(4):
        sizes = [events[index]["size"] for index in pairs if events[index]["stack"] == stack]
        if sizes:
            sums = {"type": EventType.PAIRS, "tid": len(sizes), "size": sum(sizes)}
            left.append({**sums, "address": max(sizes), "stack": stack, "tgid": 1})
    return np.array([heap_record(**event) for event in left], HEAP)


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTIONS, max_size=60), st.data())
def test_sums_of_pairs_give_what_their_events_give(actions, data):
    program, single, with_sums = Program(), HeapAccount(True), HeapAccount(True)
    for action in actions:
        if "realloc" not in action[0]:  # its release and the next event of its thread are sent
            program.act(*action)
    single.add(*typed(program.batch()))
    batch = summed(program.events, pairs_of(program.events, lambda: data.draw(st.booleans())))
    with_sums.add(*typed(batch))
    assert state_of(with_sums) == state_of(single)
    assert with_sums.by_stack() == single.by_stack()
    assert with_sums.snapshot(0) == single.snapshot(0)
    assert with_sums.peak_bytes == single.peak_bytes
    assert count_events(batch) == len(program.events)


@settings(max_examples=100, deadline=None)
@given(st.lists(ACTIONS, max_size=60))
def test_bytes_balance(actions):
    program, account = Program(), HeapAccount()
    for action in actions:
        program.act(*action)
    sizes = [e["size"] for e in program.events if e["type"] == EventType.ALLOC]
    account.add(*typed(program.batch()))
    stats = account.snapshot(0)
    assert stats.alloc_bytes == sum(sizes)
    if not account.superseded:
        assert stats.alloc_bytes - stats.freed_bytes == stats.live_bytes
