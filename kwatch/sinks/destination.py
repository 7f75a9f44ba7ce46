# SPDX-License-Identifier: Apache-2.0
"""Where output goes: standard output, or a file that replaces an earlier one."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import TextIO, TypeVar

from kwatch.errors import NO_ROOM, KwatchError
from kwatch.system import stdio

_Result = TypeVar("_Result")


def attempt(name: str, action: Callable[[], _Result]) -> _Result:
    """Raises KwatchError if the action cannot write. `name`: where to.

    A closed pipe is not an error: BrokenPipeError passes through.
    """
    try:
        return action()
    except BrokenPipeError:
        raise
    except OSError as error:
        cure = "free some space, or " * (error.errno in NO_ROOM) + "write to another file"
        raise KwatchError(
            f"{error.filename or name} cannot be written: {error.strerror}", cure
        ) from error


class Destination:
    """`stream`: to write to, within `attempt`."""

    def __init__(self, path: str | None, newline: str | None = None) -> None:
        """`newline`: as in open(). Raises KwatchError."""
        self._name = path or "standard output"
        self.stream = _opened(path, newline)

    def attempt(self, action: Callable[[], _Result]) -> _Result:
        """See the function. Raises KwatchError or BrokenPipeError."""
        return attempt(self._name, action)

    def close(self) -> None:
        """Raises OSError."""
        if self.stream is not sys.stdout:
            self.stream.close()


def _opened(path: str | None, newline: str | None) -> TextIO:
    if path is None:
        return sys.stdout
    try:
        file = stdio.open_output(path, os.O_TRUNC)
    except OSError as error:
        raise KwatchError(
            f"{path or repr(path)} cannot be written: {error.strerror}", "give another --output"
        ) from error
    return io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline=newline)
