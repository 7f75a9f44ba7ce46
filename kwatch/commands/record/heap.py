# SPDX-License-Identifier: Apache-2.0
"""Hands the heap's events of a session, and their stacks, to the recorder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from kwatch.processes.process import Process
from kwatch.programs.sources import HEAP
from kwatch.recording.recorder import Recorder
from kwatch.sinks.frame_text import frame_text
from kwatch.symbols.stack import Stack
from kwatch.symbols.symbolizer import Symbolizer
from kwatch.symbols.symbolizer_thread import SymbolizerThread
from kwatch.wire.batches import copied
from kwatch.wire.events import Batch

_STACKS_AT_ONCE = 256

_SIGN = 1 << 63

#: The pid and the identity of each stack.
_Stacks = list[tuple[int, int, Stack]]


class RecordedHeap:
    """An observer. `recorder` is asked for at the first event: it exists by then."""

    def __init__(self, recorder: Callable[[], Recorder]) -> None:
        self._recorder = recorder
        self._unnamed: _Stacks = []

    def on_batch(self, source: str, batch: Batch) -> None:
        if source == HEAP and len(batch):
            self._recorder().add_heap(copied(batch))

    def on_stack(self, process: Process, identity: int, stack: Stack) -> None:
        self._unnamed.append((process.pid, identity, stack))

    def name_stacks(self, thread: SymbolizerThread) -> None:
        """Lets the thread name the stacks that were read since the last time."""
        recorder = self._recorder()
        stacks, self._unnamed = self._unnamed, []
        for start in range(0, len(stacks), _STACKS_AT_ONCE):
            part = stacks[start : start + _STACKS_AT_ONCE]
            thread.submit(partial(_name, recorder, part))

    def all_named(self, thread: SymbolizerThread) -> threading.Event:
        """Set when the thread has named all stacks."""
        self.name_stacks(thread)
        done = threading.Event()
        thread.submit(lambda _symbolizer: done.set())
        return done


def _name(recorder: Recorder, stacks: _Stacks, symbolizer: Symbolizer) -> None:
    recorder.add_stacks(_rows(symbolizer, stacks))


def _rows(symbolizer: Symbolizer, stacks: _Stacks) -> list[dict[str, Any]]:
    named = symbolizer.frames([stack for _, _, stack in stacks])
    return [
        {
            "pid": pid,
            "stack": identity - 2 * _SIGN if identity >= _SIGN else identity,
            "ending": stack.ending.value,
            "frames": [frame_text(frame) for frame in frames],
        }
        for (pid, identity, stack), frames in zip(stacks, named, strict=True)
    ]
