# SPDX-License-Identifier: Apache-2.0
"""One scan of a process: what its memory holds pointers to, and the class of each block."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kwatch.model.reach import Reach
from kwatch.reach.classify import Classes, classify, reached_from
from kwatch.reach.graph import PointerGraph
from kwatch.reach.heuristics import Heuristics
from kwatch.reach.kernel_words import KernelWord
from kwatch.reach.layout import HeapLayout
from kwatch.reach.live_stacks import Thread, live_stacks
from kwatch.reach.memory import Ranges, TargetMemory
from kwatch.reach.pages import PageMap
from kwatch.reach.pointers import PointerReader, Roots, code_ranges, read_ranges, stack_ranges
from kwatch.reach.ranges import Mask, contains
from kwatch.reach.regions import Region


@dataclass(frozen=True)
class Scan:
    """`classes` has the `Reach` of each block of the layout. `stacks`: the used part of stacks."""

    layout: HeapLayout
    classes: Classes
    graph: PointerGraph
    roots: Roots
    regions: Sequence[Region]
    stacks: Ranges
    unreadable: tuple[tuple[int, int], ...]
    read_bytes: int
    seconds: float

    @cached_property
    def stack_only(self) -> Mask:
        """The blocks that only words of stacks, registers and the kernel lead to.

        The thread-local variables of a thread lie in the mapping of its stack and count as stack,
        except the main thread's.
        """
        lasting = self.roots.codes[~contains(self.stacks, self.roots.addresses)]
        return (self.classes <= Reach.POSSIBLE) & ~reached_from(self.graph, lasting)


def scan(
    memory: TargetMemory,
    pages: PageMap,
    regions: Sequence[Region],
    layout: HeapLayout,
    threads: Sequence[Thread],
    in_kernel: Sequence[KernelWord] = (),
) -> Scan:
    """Reads the process while it runs. A block whose last pointer is moved meanwhile can seem lost:
    only what is lost in several scans is.
    """
    started = time.monotonic()
    stacks = list(live_stacks(regions, threads))
    reader = PointerReader(memory, layout, Heuristics(memory, pages, regions))
    if len(layout):
        reader.read(read_ranges(regions, pages, layout.own, stacks))
        reader.read_code(code_ranges(regions, pages))
        reader.add_threads(threads)
        reader.add_kernel_words(in_kernel)
    pointers = reader.finish()
    del reader  # its index of the blocks takes memory
    roots = pointers.roots
    classes = classify(pointers.graph, np.concatenate((roots.codes, roots.register_codes)))
    seconds = time.monotonic() - started
    return Scan(
        layout,
        classes,
        pointers.graph,
        roots,
        regions,
        stack_ranges(stacks),
        pointers.unreadable,
        pointers.read_bytes,
        seconds,
    )
