# SPDX-License-Identifier: Apache-2.0
"""Anonymous memory that no probed allocator gave out: whether it grows, and whose it may be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from os.path import basename

from kwatch.model.growth import Grown, GrowthEvidence, GrowthKind
from kwatch.model.snapshot import MemoryStats
from kwatch.ownership.growth import Assessment
from kwatch.ownership.process_growth import Quantity
from kwatch.processes.process import Process
from kwatch.report.evidence import growing, may_grow
from kwatch.units import counted, format_size

_MIN_UNSEEN = 16 << 20  # bytes: stacks, relocations and the allocator's own data stay below it

#: Programs and libraries that get memory past the allocators that kwatch probes: the whole name of
#: a mapped file, what allocates in it, and how to see more. Libraries come before interpreters.
_OTHER_ALLOCATORS = (
    (
        r"libarrow\.so.*",
        "Arrow",
        "ARROW_DEFAULT_MEMORY_POOL=system makes its blocks visible",
    ),
    (r"libjvm\.so", "the JVM", "jcmd PID GC.heap_info shows its heap"),
    (r"beam\.smp", "Erlang", "start it with +Mea min to see its blocks"),
    (r"(lib)?php[\d.]*(-\w+)?(\.so)?", "PHP", "start it with USE_ZEND_ALLOC=0 to see its blocks"),
    (r"node|nodejs|libnode\.so.*", "V8", "node --inspect can take a snapshot of its heap"),
    (r"bun", "bun", "bun --inspect can take a snapshot of its heap"),
    (r"chrome|chromium", "Chromium", "its developer tools can take a snapshot of the heap"),
    (
        r"python[\d.]*|libpython[\d.]*\.so.*",
        "Python",
        "start it with PYTHONMALLOC=malloc to see its objects",
    ),
)


def unseen_bytes(process: Process) -> int:
    """The growth of anonymous memory that the probed allocators do not explain; 0 if it is small.

    They explain the most that was live at a time and half as much again.
    """
    if process.heap is None:
        return 0
    unseen = process.usage.anonymous_growth - process.heap.explained_bytes
    return unseen if unseen >= _MIN_UNSEEN else 0


def unseen_memory(process: Process, memory: MemoryStats) -> GrowthEvidence | None:
    """Unseen memory that grows, or may grow."""
    grown = process.growth.assess(Quantity.UNSEEN_BYTES)
    if not memory.unseen_bytes or _has_levelled_off(grown):
        return None
    said = _said(memory)
    if grown.kind is GrowthKind.GROWING:
        found = growing(Grown.UNSEEN_MEMORY, f"{said}; it", grown, is_size=True)
    else:
        found = may_grow(Grown.UNSEEN_MEMORY, said, grown, is_size=True)
    hints = _own(memory) + _cure(mapping.path for mapping in process.code.space)
    return replace(found, sentence=found.sentence + hints)


def level_text(process: Process, memory: MemoryStats, untraced: str) -> str:
    """That unseen memory has levelled off; empty if it has not, or if there is none to speak of.

    `untraced`: why the heap is not traced, so that all memory is unseen.
    """
    if not _has_levelled_off(process.growth.assess(Quantity.UNSEEN_BYTES)):
        return ""
    if memory.unseen_bytes:
        return f"{_said(memory)}, and has levelled off"
    return "its anonymous memory does not grow" if untraced else ""


def _has_levelled_off(grown: Assessment) -> bool:
    is_level = grown.kind in (GrowthKind.STEADY, GrowthKind.SATURATING)
    return is_level and not grown.still_rises


def _said(memory: MemoryStats) -> str:
    unseen = format_size(memory.unseen_bytes)
    return f"anonymous memory grew by {unseen} that no probed allocator gave out"


def _own(memory: MemoryStats) -> str:
    if memory.own_bytes < memory.unseen_bytes // 2:
        return ""
    mappings = counted(memory.own_mappings, "mapping")
    return f"; the program itself mapped {format_size(memory.own_bytes)} in {mappings}"


def _cure(files: Iterable[str]) -> str:
    names = {basename(path) for path in files}
    for pattern, owner, cure in _OTHER_ALLOCATORS:
        if any(re.fullmatch(pattern, name) for name in names):
            return f"; {owner} has an allocator of its own: {cure}"
    return ""
