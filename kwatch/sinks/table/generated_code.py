# SPDX-License-Identifier: Apache-2.0
"""How the code that a runtime generates gets names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from os.path import basename

from kwatch.model.frame import Frame
from kwatch.model.frame_roles import is_in_no_file
from kwatch.model.snapshot import Snapshot

#: Programs by their whole name, and how each writes a perf map.
_WAYS = (
    (r"node(js)?", "start it with node --perf-basic-prof"),
    (r"java", "jcmd PID Compiler.perfmap writes one (JDK 17)"),
    (r"python3?(\.\d+)?", "start it with python3 -X perf (Python 3.12)"),
    (r"dotnet", "start it with DOTNET_PerfMapEnabled=1"),
    (r"beam\.smp", "start it with erl +JPperf true"),
)
_ANY = "docs/symbols.md says how runtimes write one"


def generated_code_hint(snapshot: Snapshot) -> str:
    """How to get names for the generated code in the listed stacks; empty if all have names."""
    if not any(_is_generated(frame) for frame in _frames(snapshot)):
        return ""
    name = basename(snapshot.process.exe)
    way = next((how for program, how in _WAYS if re.fullmatch(program, name)), _ANY)
    return f"addresses without a name are generated code, which a perf map names: {way}"


def _is_generated(frame: Frame) -> bool:
    """Of a frame without a module nobody knows where its code is."""
    return not frame.symbol and bool(frame.module) and is_in_no_file(frame)


def _frames(snapshot: Snapshot) -> Iterator[Frame]:
    heap, syscalls = snapshot.heap, snapshot.syscalls
    if heap is not None:
        for stack in (*heap.stacks, *heap.young_stacks):
            yield from stack.frames
    for call in (syscalls.stacks or ()) if syscalls is not None else ():
        yield from call.frames
