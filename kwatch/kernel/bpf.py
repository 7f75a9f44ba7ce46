# SPDX-License-Identifier: Apache-2.0
"""bpf(2): maps by file descriptor, program loading, links."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

from kwatch.kernel.bpf_attr import (
    InfoByFd,
    IteratorCreate,
    MapBatch,
    MapCreate,
    MapElement,
    MapInfo,
    PerfLink,
    ProgLoad,
    ProgTestRun,
    RawTracepoint,
    TaskIteratorInfo,
    TaskIteratorLink,
    UprobeLink,
)
from kwatch.kernel.no_preempt import unpreempted
from kwatch.kernel.privileges import raise_memory_limit
from kwatch.kernel.syscall import syscall

PROG_TYPE_KPROBE = 2
PROG_TYPE_TRACEPOINT = 5
PROG_TYPE_PERF_EVENT = 7
PROG_TYPE_RAW_TRACEPOINT = 17
PROG_TYPE_TRACING = 26
TRACE_ITER = 28
TRACE_UPROBE_MULTI, TRACE_UPROBE_SESSION = 48, 57
_PERF_EVENT = 41
UPROBE_MULTI_RETURN = 1
UPROBE_SESSION = 1 << 32  # not one of the kernel's flags: it makes a link of session programs
SLEEPABLE = 1 << 4

MAP_TYPE_ARRAY, MAP_TYPE_ARRAY_OF_MAPS, MAP_TYPE_RINGBUF = 2, 12, 27
MAP_MMAPABLE = 1 << 10  # Linux 5.5, commit fc9702273e2e
MAP_INNER = 1 << 12  # may differ in size from the map that stands for it: Linux 5.10

#: A call of helper KERNEL_FUNCTIONS + id, which no kernel has, stands for the kernel's function
#: with that id in its BTF: see kwatch.programs.object_cache.
KERNEL_FUNCTIONS = 1 << 24

_MAP_CREATE = 0
_GET_INFO_BY_FD = 15
_MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _MAP_NEXT_KEY = 1, 2, 3, 4
_PROG_LOAD, _PROG_TEST_RUN, _RAW_TRACEPOINT_OPEN = 5, 10, 17
_UPDATE_BATCH, _LINK_CREATE = 26, 28
_ITER_CREATE = 33
ENOTSUPP = 524  # the kernel's own: include/linux/errno.h
_NO_EXIST = 1
_LOG_SIZE = 1 << 18
_MAX_LOG_LINES = 6  # the last ones: they say what the verifier refuses
_MAX_NAME = 15

_EXIT = struct.pack("BBhi", 0x95, 0, 0, 0)
#: A program that does nothing: r0 = 0, exit.
RETURN_ZERO = struct.pack("BBhi", 0xB7, 0, 0, 0) + _EXIT


def _bpf(command: int, attr: ctypes.Structure) -> int:
    return syscall("bpf", command, attr, ctypes.sizeof(attr))


def _name(name: str) -> bytes:
    """As much of the name as the kernel keeps."""
    return name[:_MAX_NAME].encode()


class MapShape(NamedTuple):
    """The type and the sizes of a map."""

    kind: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0


def create_map(name: str, shape: MapShape, inner: int = 0) -> int:
    """Creates a map and returns its descriptor. `inner`: a map like those that it will hold."""
    raise_memory_limit()
    attr = MapCreate(
        map_type=shape.kind,
        key_size=shape.key_size,
        value_size=shape.value_size,
        max_entries=shape.max_entries,
        map_flags=shape.flags,
        inner_map_fd=inner,
        map_name=_name(name),
    )
    return _bpf(_MAP_CREATE, attr)


def map_shape(fd: int) -> MapShape:
    """The shape of an existing map."""
    info = MapInfo()
    _bpf(_GET_INFO_BY_FD, InfoByFd(fd, ctypes.sizeof(info), ctypes.addressof(info)))
    return MapShape(info.type, info.key_size, info.value_size, info.max_entries, info.map_flags)


@dataclass(slots=True)
class Map:
    """A BPF map that this process holds open. Keys and values are bytes of the map's sizes.

    `unpreempted`: the thread keeps its CPU while it accesses an element; see no_preempt.
    """

    fd: int
    key_size: int
    value_size: int
    max_entries: int
    unpreempted: bool = False

    def _on_elements(self, command: int, attr: ctypes.Structure) -> None:
        with unpreempted() if self.unpreempted else nullcontext():
            _bpf(command, attr)

    def _element(
        self,
        command: int,
        key: bytes,
        value: ctypes.Array[ctypes.c_char] | None,
        flags: int = 0,
    ) -> None:
        key_buffer = ctypes.create_string_buffer(key, self.key_size)
        at = ctypes.addressof(value) if value is not None else 0
        attr = MapElement(self.fd, ctypes.addressof(key_buffer), at, flags)
        self._on_elements(command, attr)

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        value = ctypes.create_string_buffer(self.value_size)
        try:
            self._element(_MAP_LOOKUP, key, value)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return value.raw

    def set(self, key: bytes, value: bytes) -> None:
        self._element(_MAP_UPDATE, key, ctypes.create_string_buffer(value, self.value_size))

    def add(self, key: bytes, value: bytes) -> bool:
        """Adds a key with its value; returns False, and changes nothing, if the key exists."""
        buffer = ctypes.create_string_buffer(value, self.value_size)
        try:
            self._element(_MAP_UPDATE, key, buffer, _NO_EXIST)
        except OSError as error:
            if error.errno == errno.EEXIST:
                return False
            raise
        return True

    def set_many(self, first: int, values: bytes) -> None:
        """Sets consecutive elements of an array, from index `first` on.

        In one call where the kernel can (5.6, commit aa2e93b8e58e), else one by one.
        """
        count = len(values) // self.value_size
        if not count:
            return
        keys = (ctypes.c_uint32 * count)(*range(first, first + count))
        buffer = ctypes.create_string_buffer(values, len(values))
        attr = MapBatch(
            keys=ctypes.addressof(keys),
            values=ctypes.addressof(buffer),
            count=count,
            map_fd=self.fd,
        )
        try:
            self._on_elements(_UPDATE_BATCH, attr)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP):
                raise
            for index in range(count):
                value = values[index * self.value_size : (index + 1) * self.value_size]
                self.set(struct.pack("I", first + index), value)

    def delete(self, key: bytes) -> None:
        """Removes the key, if it exists."""
        try:
            self._element(_MAP_DELETE, key, None)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def keys(self) -> Iterator[bytes]:
        """The keys. The walk starts again when the kernel deletes the key that it has reached."""
        key: bytes | None = None
        after = ctypes.create_string_buffer(self.key_size)
        for _ in range(self.max_entries * 2):
            current = ctypes.create_string_buffer(key, self.key_size) if key is not None else None
            at = ctypes.addressof(current) if current is not None else 0
            try:
                _bpf(_MAP_NEXT_KEY, MapElement(self.fd, at, ctypes.addressof(after)))
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return
                raise
            key = after.raw
            yield key

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """The keys and values, read one by one.

        BPF_MAP_LOOKUP_BATCH visits all buckets, even empty ones, and meanwhile the kernel skips
        the programs that perf calls on that CPU.
        """
        seen: set[bytes] = set()
        for key in self.keys():
            value = None if key in seen else self.get(key)
            seen.add(key)
            if value is not None:
                yield key, value


def create_array(name: str, value_size: int, entries: int, flags: int = 0) -> Map:
    """Creates an array map; the caller closes its descriptor."""
    shape = MapShape(MAP_TYPE_ARRAY, 4, value_size, entries, flags)
    return Map(create_map(name, shape), *shape[1:4])


def create_array_of_maps(name: str, entries: int, inner: Map, unpreempted: bool = False) -> Map:
    """Creates an array of maps like `inner`; the caller closes its descriptor."""
    shape = MapShape(MAP_TYPE_ARRAY_OF_MAPS, 4, 4, entries)
    return Map(create_map(name, shape, inner.fd), *shape[1:4], unpreempted=unpreempted)


def load_program(
    name: str,
    instructions: bytes,
    kind: int,
    attach_type: int = 0,
    flags: int = 0,
    attach_btf_id: int = 0,
) -> int:
    """Loads a program; returns its descriptor. `attach_btf_id`: the kernel's function, by its BTF.

    The OSError of a refusal carries the last lines of the verifier's log.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_ = ctypes.create_string_buffer(b"GPL")
    attr = ProgLoad(
        prog_type=kind,
        insn_cnt=len(instructions) // len(_EXIT),
        insns=ctypes.addressof(code),
        license=ctypes.addressof(license_),
        prog_flags=flags,
        prog_name=_name(name),
        expected_attach_type=attach_type,
        attach_btf_id=attach_btf_id,
    )
    try:
        return _bpf(_PROG_LOAD, attr)
    except OSError as error:
        refused = error
    log = ctypes.create_string_buffer(_LOG_SIZE)
    attr.log_level, attr.log_size, attr.log_buf = 1, len(log), ctypes.addressof(log)
    try:
        return _bpf(_PROG_LOAD, attr)
    except OSError as error:  # a log that is too long makes it ENOSPC, so this one is not raised
        raise _refusal(refused, log.value) from error


def _refusal(error: OSError, log: bytes) -> OSError:
    """The error, with the end of the verifier's log where it is the verifier that refused."""
    lines = log.decode(errors="replace").strip().splitlines()[-_MAX_LOG_LINES:]
    why = os.strerror(error.errno or 0)
    if lines and error.errno in (errno.EACCES, errno.EINVAL, errno.E2BIG, errno.EPERM):
        why += f"; {' / '.join(lines)}"
    return OSError(error.errno, why)


def run_program(program: int, *arguments: int) -> int:
    """Runs a program for raw tracepoints that is not attached; returns its result.

    Linux 5.10, commit 1b4d60ec162f.
    """
    context = (ctypes.c_uint64 * len(arguments))(*arguments)
    attr = ProgTestRun(
        prog_fd=program, ctx_in=ctypes.addressof(context), ctx_size_in=ctypes.sizeof(context)
    )
    _bpf(_PROG_TEST_RUN, attr)
    return int(attr.retval)


def recursion_misses(program: int) -> int:
    """How often the kernel has skipped a tracepoint's program.

    It does so while a raw tracepoint's runs already on that CPU (Linux 6.2, commit 05b24ff9b2cf),
    and perf's while a task was preempted there in the middle of bpf(2). The count came with 5.12
    (commit 9ed9e9ba2337), perf's with 6.7 (commit dd8657894c11).
    """
    with open(f"/proc/self/fdinfo/{program}") as file:
        lines = (line.partition(":") for line in file)
        return next((int(value) for key, _, value in lines if key == "recursion_misses"), 0)


def open_raw_tracepoint(name: str, program: int) -> int:
    """Attaches the program to a raw tracepoint until the returned descriptor is closed."""
    buffer = ctypes.create_string_buffer(name.encode())
    return _bpf(_RAW_TRACEPOINT_OPEN, RawTracepoint(ctypes.addressof(buffer), program))


def link_uprobes(
    program: int, path: str, offsets: Sequence[int], cookies: Sequence[int], pid: int, flags: int
) -> int:
    """Attaches a program to many places of one file in one process (perf.EVERY_PROCESS: in all).

    Linux 6.6, commit 89ae89f53d20 (BPF_TRACE_UPROBE_MULTI). One descriptor holds all the places.
    """
    name = ctypes.create_string_buffer(os.fsencode(path))
    places = (ctypes.c_uint64 * len(offsets))(*offsets)
    values = (ctypes.c_uint64 * len(cookies))(*cookies)
    attr = UprobeLink(
        prog_fd=program,
        attach_type=TRACE_UPROBE_SESSION if flags & UPROBE_SESSION else TRACE_UPROBE_MULTI,
        path=ctypes.addressof(name),
        offsets=ctypes.addressof(places),
        cookies=ctypes.addressof(values),
        cnt=len(offsets),
        flags=flags & ~UPROBE_SESSION,
        pid=max(pid, 0),  # 0: every process
    )
    return _bpf(_LINK_CREATE, attr)


def link_event(program: int, event: int, cookie: int) -> int:
    """Attaches a program with a cookie to a perf event, which the link keeps open.

    Linux 5.15, commit 82e6b1eee6a8.
    """
    return _bpf(_LINK_CREATE, PerfLink(program, event, _PERF_EVENT, 0, cookie))


def read_tasks(program: int, pid: int = 0) -> bytes:
    """What a program of the task iterator writes for the threads of a process (0: of all).

    Linux 5.8; one process since 6.1 (commit f0d74c4da1f0): OSError E2BIG or EINVAL before.
    """
    attr = TaskIteratorLink(prog_fd=program, attach_type=TRACE_ITER)
    info = TaskIteratorInfo(pid=pid)
    if pid:
        attr.info, attr.info_len = ctypes.addressof(info), ctypes.sizeof(info)
    link = _bpf(_LINK_CREATE, attr)
    try:
        with open(_bpf(_ITER_CREATE, IteratorCreate(link)), "rb") as records:
            return records.read()
    finally:
        os.close(link)
