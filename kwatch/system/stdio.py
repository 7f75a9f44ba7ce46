# SPDX-License-Identifier: Apache-2.0
"""Standard output with immediate errors, and standard error with errors ignored."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import select
import stat
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from kwatch.errors import KwatchError
from kwatch.system.pipe_writer import PipeWriter, WaitForRoom, can_block, reopened
from kwatch.system.signals import Signals

_SAY_S = 1.0  # a message waits this long for room, the later ones not at all
_LOOK_S = 0.05  # between checks whether a FIFO has a reader
_MODE = 0o666  # less the umask, as for every file that a program creates

_obeyed: Signals | None = None


def guard() -> None:
    """No write to a standard stream blocks for ever: see `obey` and `say`."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout is sys.__stdout__:
        sys.stdout = _guarded(sys.stdout, _wait, retries=False)
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(sys.stderr, _Short(), retries=True)


def obey(signals: Signals) -> None:
    """From now on, signals end what waits for a reader."""
    global _obeyed
    _obeyed = signals
    for writer in _writers(sys.stdout):
        writer.wait = signals.wait_for_room


def _guarded(
    stream: io.TextIOWrapper[Any], wait: WaitForRoom, retries: bool
) -> io.TextIOWrapper[Any]:
    try:
        writer = reopened(stream.fileno(), wait, retries)
    except OSError:
        return stream  # it is closed
    if writer is None:
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(writer),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
    )


def _writers(stream: TextIO | None) -> Iterator[PipeWriter]:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    if isinstance(raw, PipeWriter):
        yield raw


def _wait(fd: int) -> bool:
    select.select([], [fd], [])
    return True


def _pause(seconds: float) -> None:
    if _obeyed is not None:
        _obeyed.wait(seconds)
    else:
        time.sleep(seconds)


def _now(fd: int) -> bool:
    return bool(select.select([], [fd], [], 0)[1])


class _Short:
    """Waits for a moment, once."""

    def __init__(self) -> None:
        self._left_s = _SAY_S

    def __call__(self, fd: int) -> bool:
        seconds, self._left_s = self._left_s, 0.0
        return bool(select.select([], [fd], [], seconds)[1])


def open_output(path: str, flags: int) -> io.BufferedWriter:
    """Opens a file to write; waits for the reader of a FIFO until a signal raises Interrupted.

    Raises OSError. Writes to a pipe or a terminal wait as those to standard output do.
    """
    flags |= os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
    said_at = time.monotonic() + _SAY_S
    while True:
        try:
            fd = os.open(path, flags | os.O_NONBLOCK, _MODE)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
                raise
        if time.monotonic() >= said_at:
            say(f"kwatch: waiting until {path} is opened for reading")
            said_at = math.inf
        _pause(_LOOK_S)
    if can_block(fd):
        return io.BufferedWriter(PipeWriter(fd, _obeyed.wait_for_room if _obeyed else _wait))
    os.set_blocking(fd, True)
    return io.BufferedWriter(io.FileIO(fd, "wb"))


def require_output(cure: str = "redirect it to a file") -> None:
    """Raises KwatchError if standard output is closed."""
    if sys.stdout is None:
        raise KwatchError("standard output is closed", cure)


def write(text: str) -> None:
    """Writes to standard output. Raises KwatchError on failure, BrokenPipeError as it is."""
    require_output()
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
    """Writes a line to standard error; ignores errors, as it may be closed, full or not read."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def is_watched() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def say_error(error: KwatchError) -> None:
    """Prints what failed, why, and what to do."""
    hint = f"\n  {error.hint}" if error.hint else ""
    say(f"kwatch: {error}{hint}")


def abandon() -> None:
    """Discards what could not be written, or Python would try again at its exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        for writer in _writers(stream):
            writer.wait = _now
        try:
            stream.flush()
        except OSError:
            _discard(stream)


def _discard(stream: TextIO) -> None:
    guarded = list(_writers(stream))
    for writer in guarded:
        writer.discard()
    if not guarded:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
