# SPDX-License-Identifier: Apache-2.0
"""Why the heap's numbers may not show everything that a process holds.

Each reason is one sentence with what was seen and, where one is known, what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kwatch.model.growth import Grown, GrowthEvidence
from kwatch.model.snapshot import HeapStats, MemoryStats
from kwatch.processes.process import Process
from kwatch.units import counted

_MAX_CACHED = 64 * 7  # blocks in a thread's cache: TCACHE_MAX_BINS, TCACHE_FILL_COUNT


def doubts(
    process: Process, heap: HeapStats, memory: MemoryStats, growth: Sequence[GrowthEvidence]
) -> Iterator[str]:
    """The reasons to doubt the numbers of a process, the weightiest first.

    `growth`: what has grown; that of single stacks is not a reason.
    """
    grown = {each.what: each.sentence for each in growth if each.what is not Grown.BLOCKS}
    mappings, unseen_memory = grown.pop(Grown.MAPPINGS, ""), grown.pop(Grown.UNSEEN_MEMORY, "")
    if unseen_memory or mappings:
        yield unseen_memory or mappings
    if unseen := unseen_frees(process, heap):
        yield unseen
    yield from grown.values()


def unseen_frees(process: Process, heap: HeapStats) -> str:
    """Why blocks may be free that kwatch takes for live ones; empty if nothing speaks for it."""
    if not heap.superseded or process.forked_ns:
        return ""
    blocks = counted(heap.superseded, "block")
    return (
        f"the addresses of {blocks} were allocated again though no free of them was seen: kwatch "
        "has missed it, or some function that frees is not probed"
    )


def thread_end_frees(unknown_frees: int, ended_threads: int) -> int:
    """How many frees of unknown blocks glibc made as threads ended, if no others are possible.

    It frees the blocks in a thread's cache, which the program had freed before, once more when the
    thread ends (tcache_thread_shutdown() in malloc.c). 0 if there are more than it can make.
    """
    return unknown_frees if unknown_frees <= ended_threads * _MAX_CACHED else 0


def unknown_frees(heap: HeapStats) -> str:
    """Why a program that was traced from its exec on cannot have freed so many unknown blocks.

    Empty if the ends of threads explain them.
    """
    if heap.unknown_frees == heap.thread_end_frees:
        return ""
    frees = counted(heap.unknown_frees, "block was", "blocks were")
    return (
        f"{frees} freed that kwatch, which traced from the start, did not see allocated: they were "
        "freed twice, or some function that allocates is not probed"
    )
