# SPDX-License-Identifier: Apache-2.0
"""The call stacks of traced calls, as text."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from kwatch.model.frame import Ending
from kwatch.model.traced_call import TracedCall
from kwatch.processes.process import Process
from kwatch.sinks.frame_text import frame_text, stack_texts
from kwatch.stacks.lookup import WITHOUT_STACK
from kwatch.symbols.stack import Stack
from kwatch.symbols.symbolizer import Symbolizer
from kwatch.symbols.symbolizer_thread import SymbolizerThread
from kwatch.system.lru import Lru
from kwatch.wire.events import STACK_IDS, Batch, NoCallStack

_MAX_TEXTS = 65_536
_LOOK_S = 0.1  # between looks whether the thread has failed

_Key = tuple[int, int]


class CallStackTexts:
    """An observer. Stacks are named by the session's thread when their first call is shown."""

    def __init__(self) -> None:
        self._unnamed: dict[_Key, Stack] = {}
        self._texts: Lru[_Key, list[str]] = Lru(_MAX_TEXTS)
        self._by_identity: Lru[int, list[str]] = Lru(_MAX_TEXTS)  # a child has its parent's stacks

    def on_batch(self, source: str, batch: Batch) -> None:
        """Takes no events."""

    def on_stack(self, process: Process, identity: int, stack: Stack) -> None:
        self._unnamed[process.pid, identity] = stack

    def name(
        self, calls: Iterable[TracedCall], thread: SymbolizerThread, check: Callable[[], None]
    ) -> None:
        """Waits until the stacks of these calls have names. `check` is called meanwhile."""
        keys = {(call.pid, call.stack) for call in calls}
        wanted = {key: self._unnamed.pop(key) for key in keys if key in self._unnamed}
        if not wanted:
            return
        done = threading.Event()

        def job(symbolizer: Symbolizer) -> None:
            named = symbolizer.frames(list(wanted.values()))
            for (key, stack), frames in zip(wanted.items(), named, strict=True):
                text = stack_texts([frame_text(frame) for frame in frames], stack.ending)
                self._texts.put(key, text)
                self._by_identity.put(key[1], text)
            done.set()

        thread.submit(job, urgent=True)
        while not done.wait(_LOOK_S):
            thread.check()
            check()

    def frames(self, call: TracedCall) -> list[str]:
        """From the innermost on; the last one may say what is missing."""
        if call.stack < STACK_IDS:
            return stack_texts([], WITHOUT_STACK[NoCallStack(call.stack)])
        found = self._texts.get((call.pid, call.stack)) or self._by_identity.get(call.stack)
        return found or stack_texts([], Ending.LOST)
