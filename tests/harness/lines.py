# SPDX-License-Identifier: Apache-2.0
"""The lines that a process prints, with deadlines instead of sleeps."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import IO

#: Seconds; KWATCH_PATIENCE multiplies it on a slow machine, such as an emulated one.
DEADLINE = 60.0 * float(os.environ.get("KWATCH_PATIENCE", "1"))


class Lines:
    """Reads a stream to its end in a thread, so that the writer never blocks."""

    def __init__(self, stream: IO[str]) -> None:
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def wait(
        self, matches: Callable[[str], bool], start: int = 0, seconds: float = DEADLINE
    ) -> int | None:
        """The index of the first match from `start` on; None if the stream ends before."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                while start < len(self._lines):
                    if matches(self._lines[start]):
                        return start
                    start += 1
                if self._ended:
                    return None
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"not seen within {seconds} s, but:\n{self._text()}")

    def all(self, seconds: float = DEADLINE) -> list[str]:
        """Waits for the end of the stream and returns all lines."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise TimeoutError(f"the stream did not end within {seconds} s:\n{self._text()}")
        return self._lines

    def __getitem__(self, index: slice) -> list[str]:
        with self._changed:
            return self._lines[index]

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _text(self) -> str:
        return "\n".join(self._lines[-50:])
