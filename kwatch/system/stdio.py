# SPDX-License-Identifier: Apache-2.0
"""Standard output with immediate errors, and standard error with errors ignored."""

from __future__ import annotations

import contextlib
import os
import sys

from kwatch.errors import KwatchError


def write(text: str) -> None:
    """Writes to standard output. Raises KwatchError on failure, BrokenPipeError as it is."""
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
    """Writes a line to standard error; ignores errors, as it may be closed or full."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def say_error(error: KwatchError) -> None:
    """Prints what failed, why, and what to do."""
    hint = f"\n  {error.hint}" if error.hint else ""
    say(f"kwatch: {error}{hint}")


def abandon() -> None:
    """Discards what could not be written, or Python would try again at its exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
