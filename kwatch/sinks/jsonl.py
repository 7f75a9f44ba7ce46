# SPDX-License-Identifier: Apache-2.0
"""Snapshots as JSON, one object per line (see docs/json.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TextIO

from kwatch.model.frame import Frame
from kwatch.model.growth import GrowthEvidence
from kwatch.model.snapshot import (
    CallStackStats,
    EndedSummary,
    HeapStats,
    Release,
    Snapshot,
    StackStats,
    SyscallSummary,
)

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(r"\\ud[89a-f]")


class JsonLines:
    """Writes ASCII only. Bytes of names that are not UTF-8 become U+FFFD."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, snapshot: Snapshot) -> None:
        self._stream.write(text_of(_snapshot(snapshot)) + "\n")
        self._stream.flush()

    def write_ended(self, summary: EndedSummary) -> None:
        self._stream.write(text_of({"kind": "ended", **members(summary)}) + "\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


def text_of(record: dict[str, object]) -> str:
    """A record as one line.

    Checks names only where needed: short-lived processes spend most of kwatch's time here.
    """
    text = json.dumps(record, allow_nan=False, default=members)
    return json.dumps(_valid(json.loads(text))) if _ESCAPED.search(text) else text


def members(value: object) -> dict[str, object]:
    """The fields of one of the snapshot's dataclasses, which all have slots."""
    return {name: getattr(value, name) for name in value.__slots__}  # type: ignore[attr-defined]


def _snapshot(snapshot: Snapshot) -> dict[str, object]:
    record = members(snapshot)
    del record["profile"]
    record["growth"] = [_growth(each) for each in snapshot.growth]
    if snapshot.heap is not None:
        record["heap"] = _heap(snapshot.heap)
    if snapshot.memory is not None:
        stacks = [_stack(stack) for stack in snapshot.memory.stacks]
        record["memory"] = members(snapshot.memory) | {"stacks": stacks}
    if snapshot.syscalls is not None and snapshot.syscalls.stacks is not None:
        record["syscalls"] = _syscalls(snapshot.syscalls, snapshot.syscalls.stacks)
    return record


def _heap(heap: HeapStats) -> dict[str, object]:
    return members(heap) | {
        "stacks": [_stack(stack) for stack in heap.stacks],
        "young_stacks": [_stack(stack) for stack in heap.young_stacks],
    }


def _stack(stack: StackStats) -> dict[str, object]:
    return {
        "id": hex(stack.stack),
        "bytes": stack.bytes,
        "blocks": stack.blocks,
        "oldest_s": stack.oldest_s,
        "addresses": [hex(address) for address in stack.addresses],
        "sizes": stack.sizes,
        "reach": stack.reach,
        "lost_bytes": stack.lost_bytes,
        "direct": stack.direct,
        "indirect": stack.indirect,
        "ending": stack.ending,
        "frames": [_frame(frame) for frame in stack.frames],
        "release": _release(stack.release) if stack.release is not None else None,
        "owner": stack.owner,
        "owner_module": stack.owner_module,
    }


def _release(release: Release) -> dict[str, object]:
    return {
        "frames": [_frame(frame) for frame in release.frames],
        "at": release.at,
        "blocks": release.blocks,
        "of": release.of,
        "mean_lifetime_s": release.mean_lifetime_s,
    }


def _growth(growth: GrowthEvidence) -> dict[str, object]:
    record = members(growth)
    del record["stack"]
    gains = [
        {"id": hex(each.stack), "bytes": each.bytes, "blocks": each.blocks} for each in growth.gains
    ]
    return record | {"id": None if growth.stack is None else hex(growth.stack), "gains": gains}


def _syscalls(summary: SyscallSummary, stacks: Iterable[CallStackStats]) -> dict[str, object]:
    return members(summary) | {"stacks": [_call_stack(stack) for stack in stacks]}


def _call_stack(stack: CallStackStats) -> dict[str, object]:
    return {
        "id": hex(stack.stack),
        "name": stack.name,
        "calls": stack.calls,
        "errors": stack.errors,
        "total_ns": stack.total_ns,
        "ending": stack.ending,
        "frames": [_frame(frame) for frame in stack.frames],
    }


def _frame(frame: Frame) -> dict[str, object]:
    return members(frame) | {"address": hex(frame.address)}


def _valid(value: object) -> object:
    """`value` with U+FFFD for lone surrogates, which strict JSON readers reject."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_valid(key): _valid(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_valid(item) for item in value]
    return value
