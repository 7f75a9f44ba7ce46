# SPDX-License-Identifier: Apache-2.0
"""Standard output, whose errors are seen at once, and standard error, whose errors do no harm."""

from __future__ import annotations

import contextlib
import os
import sys

from kwatch.errors import KwatchError


def write(text: str) -> None:
    """To standard output. Raises KwatchError if that fails; BrokenPipeError passes through."""
    if sys.stdout is None:
        raise KwatchError("standard output is closed", "redirect it to a file")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise KwatchError(
            f"standard output cannot be written: {error.strerror}",
            "make room, or redirect it elsewhere",
        ) from error


def say(text: str) -> None:
    """To standard error, for people. It may be closed, full, or have nobody who reads it."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def say_error(error: KwatchError) -> None:
    """What failed, why, and what to do."""
    hint = f"\n  {error.hint}" if error.hint else ""
    say(f"kwatch: {error}{hint}")


def abandon() -> None:
    """What could not be written is given up: Python must not try again at its exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
