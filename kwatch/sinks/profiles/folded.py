# SPDX-License-Identifier: Apache-2.0
"""Folded stacks for flamegraph.pl and others: `process;outermost;...;innermost bytes`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kwatch.model.frame import Frame
from kwatch.sinks.profiles.unit import INUSE_SPACE, ProcessProfile, frames_of, name_of


def folded(units: Sequence[ProcessProfile]) -> bytes:
    """One line for each stack with outstanding bytes; inlined functions end in `_[i]`."""
    lines: Counter[str] = Counter()
    for unit in units:
        root = _plain(unit.name)
        for stack in unit.profile.stacks:
            if size := INUSE_SPACE.of(stack):
                path = ";".join(map(_label, reversed(frames_of(stack))))
                lines[f"{root};{path}"] += size
    return "".join(f"{line} {size}\n" for line, size in sorted(lines.items())).encode()


def _label(frame: Frame) -> str:
    return _plain(name_of(frame)) + ("_[i]" if frame.inlined else "")


def _plain(name: str) -> str:
    """`name` without semicolons, which separate frames; Rust has them, as in `[u8; 4]`."""
    return name.replace(";", ":")
