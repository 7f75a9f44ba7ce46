# SPDX-License-Identifier: Apache-2.0
"""Attaches programs that do nothing, or only take a stack, at kwatch's own probe sites.

It uses kwatch's finder and attacher, so sites, kinds and order are the same.
"""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from kwatch.kernel import bpf, bpf_features
from kwatch.probes.attach import Attacher
from kwatch.probes.finder import Allocator, AllocatorFinder
from kwatch.procfs.mappings import file_of, read_mappings
from kwatch.programs.loader import Programs
from kwatch.programs.source import AttachMethods

_USER_STACK = 1 << 8  # BPF_F_USER_STACK, include/uapi/linux/bpf.h
_GET_STACKID, _KTIME_GET_NS = 27, 5  # the helpers' numbers in the same file
_STACKS = bpf.MapShape(kind=7, key_size=4, value_size=127 * 8, max_entries=16384)  # STACK_TRACE

_Instruction = tuple[int, int, int, int]  # code, registers, offset, immediate value
_RETURN_ZERO: list[_Instruction] = [(0xB7, 0, 0, 0), (0x95, 0, 0, 0)]


def _take_stack(stacks: int) -> list[_Instruction]:
    """As bcc compiles `stack_traces.get_stackid(ctx, BPF_F_USER_STACK)`."""
    map_to_r2 = [(0x18, 0x12, 0, stacks), (0, 0, 0, 0)]
    return [*map_to_r2, (0xB7, 0x03, 0, _USER_STACK), (0x85, 0, 0, _GET_STACKID)]


def empty_probes(pid: int) -> AbstractContextManager[None]:
    return _probes(pid, [])


@contextmanager
def stackid_probes(pid: int) -> Iterator[None]:
    """Return probes, where kwatch takes a stack, take one by frame pointers."""
    stacks = bpf.create_map("stacks", _STACKS)
    try:
        with _probes(pid, _take_stack(stacks)):
            yield
    finally:
        os.close(stacks)


@contextmanager
def empty_tracepoints(pid: int) -> Iterator[None]:
    """A raw tracepoint at the entry and one at the return of system calls: each reads the clock.

    They run for every process.
    """
    code = _code([(0x85, 0, 0, _KTIME_GET_NS), *_RETURN_ZERO])
    program = bpf.load_program("clock", code, bpf.PROG_TYPE_RAW_TRACEPOINT)
    attached = [bpf.open_raw_tracepoint(name, program) for name in ("sys_enter", "sys_exit")]
    try:
        yield
    finally:
        for fd in (*attached, program):
            os.close(fd)


@contextmanager
def _probes(pid: int, at_return: list[_Instruction]) -> Iterator[None]:
    links = bpf_features.has_uprobe_links()
    kind = bpf.TRACE_UPROBE_MULTI if links else 0
    loaded = [
        bpf.load_program("empty", _code([*first, *_RETURN_ZERO]), bpf.PROG_TYPE_KPROBE, kind)
        for first in ([], at_return)
    ]
    empty, returning = loaded
    programs = defaultdict[str, int](lambda: empty, {"heap_return": returning})
    attacher = Attacher(Programs({}, programs, AttachMethods(links, False)))
    try:
        for path, allocator in _allocators(pid):
            attacher.attach(pid, path, allocator)
        yield
    finally:
        attacher.close()
        for program in loaded:
            os.close(program)


def _code(instructions: list[_Instruction]) -> bytes:
    return b"".join(struct.pack("BBhi", *instruction) for instruction in instructions)


def _allocators(pid: int) -> Iterator[tuple[str, Allocator]]:
    finder = AllocatorFinder()
    files = {(m.device, m.inode): m for m in read_mappings(pid) if m.executable and m.inode}
    for key, mapping in files.items():
        path = file_of(pid, mapping)
        allocator = finder.find(key, path, mapping.path) if path else None
        if allocator is not None:
            yield path, allocator
