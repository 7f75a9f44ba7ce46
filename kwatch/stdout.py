# SPDX-License-Identifier: Apache-2.0
"""Standard output for commands that print text: written at once, so that errors are seen."""

from __future__ import annotations

import os
import sys

from kwatch.errors import KwatchError


def write(text: str) -> None:
    """Raises KwatchError if it cannot be written; BrokenPipeError passes through."""
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


def abandon() -> None:
    """What could not be written is given up: Python must not try again at its exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
