# SPDX-License-Identifier: Apache-2.0
"""Where blocks are usually freed, as a sentence."""

from __future__ import annotations

from pathlib import PurePath

from kwatch.model.frame import Frame
from kwatch.model.snapshot import Release
from kwatch.units import format_seconds


def release_sentence(release: Release, blocks: int) -> str:
    """`97 of 97 frees of blocks from here were in request_done+0x1c (http.c:412), ...`.

    `blocks`: how many of the stack are outstanding.
    """
    kept = "this one was" if blocks == 1 else f"these {blocks:,} were"
    return (
        f"{release.blocks:,} of {release.of:,} frees of blocks from here were in "
        f"{_place(release.frames[release.at])}, after {_time(release.mean_lifetime_s)} on average; "
        f"{kept} not freed"
    )


def _place(frame: Frame) -> str:
    source = PurePath(frame.file or frame.module).name
    if not frame.symbol:
        return f"{source}+{frame.offset:#x}"
    line = f":{frame.line}" if frame.file and frame.line else ""
    return f"{frame.symbol}+{frame.offset:#x} ({source}{line})"


def _time(seconds: float) -> str:
    return format_seconds(seconds) if seconds >= 1e-4 else "less than 0.1 ms"
