# SPDX-License-Identifier: Apache-2.0
"""Snapshots as JSON, one object per line (see docs/json.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TextIO

from kwatch.model.frame import Frame
from kwatch.model.snapshot import (
    CallStackStats,
    EndedSummary,
    HeapStats,
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
        self._stream.write(_text(_snapshot(snapshot)) + "\n")
        self._stream.flush()

    def write_ended(self, summary: EndedSummary) -> None:
        self._stream.write(_text({"kind": "ended", **_members(summary)}) + "\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


def _text(record: dict[str, object]) -> str:
    """Checks names only where needed: short-lived processes spend most of kwatch's time here."""
    text = json.dumps(record, allow_nan=False, default=_members)
    return json.dumps(_valid(json.loads(text))) if _ESCAPED.search(text) else text


def _members(value: object) -> dict[str, object]:
    """The fields of one of the snapshot's dataclasses, which all have slots."""
    return {name: getattr(value, name) for name in value.__slots__}  # type: ignore[attr-defined]


def _snapshot(snapshot: Snapshot) -> dict[str, object]:
    record = _members(snapshot)
    del record["profile"]
    if snapshot.heap is not None:
        record["heap"] = _heap(snapshot.heap)
    if snapshot.memory is not None:
        stacks = [_stack(stack) for stack in snapshot.memory.stacks]
        record["memory"] = _members(snapshot.memory) | {"stacks": stacks}
    if snapshot.syscalls is not None and snapshot.syscalls.stacks is not None:
        record["syscalls"] = _syscalls(snapshot.syscalls, snapshot.syscalls.stacks)
    return record


def _heap(heap: HeapStats) -> dict[str, object]:
    return _members(heap) | {
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
        "ending": stack.ending,
        "frames": [_frame(frame) for frame in stack.frames],
    }


def _syscalls(summary: SyscallSummary, stacks: Iterable[CallStackStats]) -> dict[str, object]:
    return _members(summary) | {"stacks": [_call_stack(stack) for stack in stacks]}


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
    return _members(frame) | {"address": hex(frame.address)}


def _valid(value: object) -> object:
    """`value` with U+FFFD for lone surrogates, which strict JSON readers reject."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_valid(key): _valid(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_valid(item) for item in value]
    return value
