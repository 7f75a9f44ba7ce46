# SPDX-License-Identifier: Apache-2.0
"""Probes at the places where kwatch puts its own, with programs that do nothing.

The finder and the attacher are kwatch's, so that places, kinds and order are the same.
"""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from kwatch.kernel import bpf
from kwatch.kernel.loader import Programs
from kwatch.kernel.source import Ways
from kwatch.probes.attach import Attacher
from kwatch.probes.finder import Allocator, AllocatorFinder
from kwatch.symbols.mappings import file_of, read_mappings

# r0 = 0; exit
_RETURN_ZERO = struct.pack("BBhi", 0xB7, 0, 0, 0) + struct.pack("BBhi", 0x95, 0, 0, 0)


@contextmanager
def empty_probes(pid: int) -> Iterator[None]:
    links = bpf.has_uprobe_links()
    kind = bpf.TRACE_UPROBE_MULTI if links else 0
    program = bpf.load_program("empty", _RETURN_ZERO, bpf.PROG_TYPE_KPROBE, kind)
    every_name = defaultdict[str, int](lambda: program)
    attacher = Attacher(Programs({}, every_name, Ways(links, False)))
    try:
        for path, allocator in _allocators(pid):
            attacher.attach(pid, path, allocator)
        yield
    finally:
        attacher.close()
        os.close(program)


def _allocators(pid: int) -> Iterator[tuple[str, Allocator]]:
    finder = AllocatorFinder()
    files = {(m.device, m.inode): m for m in read_mappings(pid) if m.executable and m.inode}
    for key, mapping in files.items():
        path = file_of(pid, mapping)
        allocator = finder.find(key, path, mapping.path) if path else None
        if allocator is not None:
            yield path, allocator
