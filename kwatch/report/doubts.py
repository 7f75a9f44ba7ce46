# SPDX-License-Identifier: Apache-2.0
"""Why the heap's numbers may not show everything that a process holds.

Each reason is one sentence with what was seen and, where one is known, what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from os.path import basename

from kwatch.model.snapshot import Descriptors, HeapStats, MemoryStats
from kwatch.processes.process import Process
from kwatch.units import counted, format_size

_MIN_UNSEEN = 16 << 20  # bytes: stacks, relocations and the allocator's own data stay below it
_BLOCK_OVERHEAD = 32  # bytes that an allocator adds to a small block, at most
_MIN_YOUNG = 1 << 20  # bytes
_MIN_DESCRIPTORS = 100
_MIN_STEADY = 16  # descriptors, if their number has kept growing
_MIN_MAPPINGS = 100
_MAX_CACHED = 64 * 7  # blocks in a thread's cache: TCACHE_MAX_BINS, TCACHE_FILL_COUNT

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

    They explain the most that was live at a time and half as much again: allocators round sizes up
    and keep what was freed.
    """
    if process.heap is None:
        return 0
    explained = process.heap.peak_bytes * 3 // 2 + process.heap.peak_blocks * _BLOCK_OVERHEAD
    unseen = process.usage.anonymous_growth - explained
    return unseen if unseen >= _MIN_UNSEEN else 0


def doubts(
    process: Process, heap: HeapStats, memory: MemoryStats, descriptors: Descriptors | None
) -> Iterator[str]:
    """The reasons to doubt the numbers of a process, the weightiest first."""
    if memory.unseen_bytes:
        yield _unseen(memory, (mapping.path for mapping in process.code.space))
    elif memory.own_mappings >= _MIN_MAPPINGS or _is_own_growth(heap, memory):
        count = f"{counted(memory.own_mappings, 'mapping')} ({format_size(memory.own_bytes)})"
        verb = "is" if memory.own_mappings == 1 else "are"
        yield f"{count} that the program made itself since the attach {verb} still mapped"
    if heap.superseded and not process.forked_ns:
        blocks = counted(heap.superseded, "block")
        yield (
            f"the addresses of {blocks} were allocated again though no free of them was seen, so "
            "some function that frees is not probed"
        )
    if heap.young_bytes >= _MIN_YOUNG and process.live_bytes.growth >= _MIN_YOUNG:
        size = format_size(process.live_bytes.growth)
        yield f"the heap keeps growing (by {size} so far), in blocks younger than --older"
    if memory.shared_growth >= _MIN_UNSEEN:
        yield (
            f"resident shared memory grew by {format_size(memory.shared_growth)} (mappings, System "
            "V or POSIX shared memory, or files in memory)"
        )
    is_steady = process.descriptors.growth >= _MIN_STEADY
    if descriptors is not None and (descriptors.growth >= _MIN_DESCRIPTORS or is_steady):
        yield (
            f"{descriptors.growth:,} more file descriptors are open than when kwatch attached "
            f"(ls -l /proc/{process.pid}/fd lists them)"
        )


def _is_own_growth(heap: HeapStats, memory: MemoryStats) -> bool:
    """Whether memory has grown that may be in the mappings that the program made itself.

    `unseen_bytes` does not say so if the allocators may have kept as much of freed blocks.
    """
    live = heap.live_bytes * 3 // 2 + heap.live_blocks * _BLOCK_OVERHEAD
    grown = memory.anonymous_growth + memory.shared_growth - live
    return min(memory.own_bytes, grown) >= _MIN_UNSEEN


def unknown_frees(heap: HeapStats, ended_threads: int) -> str:
    """Why a program that was traced from its exec on cannot have freed so many unknown blocks.

    Empty if it can: glibc frees the blocks in a thread's cache, which the program had freed before,
    once more when the thread ends (tcache_thread_shutdown() in malloc.c).
    """
    if heap.unknown_frees <= ended_threads * _MAX_CACHED:
        return ""
    frees = counted(heap.unknown_frees, "block was", "blocks were")
    return (
        f"{frees} freed that kwatch, which traced from the start, did not see allocated: they were "
        "freed twice, or some function that allocates is not probed"
    )


def _unseen(memory: MemoryStats, files: Iterable[str]) -> str:
    unseen = format_size(memory.unseen_bytes)
    own = ""
    if memory.own_bytes >= memory.unseen_bytes // 2:
        mappings = counted(memory.own_mappings, "mapping")
        own = f"; the program itself mapped {format_size(memory.own_bytes)} in {mappings}"
    grown = f"anonymous memory grew by {unseen} that no probed allocator gave out"
    return grown + own + _cure(files)


def _cure(files: Iterable[str]) -> str:
    names = {basename(path) for path in files}
    for pattern, owner, cure in _OTHER_ALLOCATORS:
        if any(re.fullmatch(pattern, name) for name in names):
            return f"; {owner} has an allocator of its own: {cure}"
    return ""
