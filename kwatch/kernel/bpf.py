# SPDX-License-Identifier: Apache-2.0
"""bpf(2): maps by file descriptor, program loading, links. The layouts are union bpf_attr's."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kwatch.kernel.no_preempt import unpreempted
from kwatch.kernel.privileges import raise_memory_limit
from kwatch.kernel.syscall import syscall

PROG_TYPE_KPROBE = 2
PROG_TYPE_TRACEPOINT = 5
PROG_TYPE_RAW_TRACEPOINT = 17
TRACE_UPROBE_MULTI = 48
UPROBE_MULTI_RETURN = 1
SLEEPABLE = 1 << 4

MAP_TYPE_ARRAY, MAP_TYPE_ARRAY_OF_MAPS, MAP_TYPE_RINGBUF = 2, 12, 27
MAP_MMAPABLE = 1 << 10  # Linux 5.5, commit fc9702273e2e

_MAP_CREATE = 0
_GET_INFO_BY_FD = 15
_MAP_INFO = struct.Struct("IIIIII")
_MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _MAP_NEXT_KEY = 1, 2, 3, 4
_PROG_LOAD, _RAW_TRACEPOINT_OPEN, _UPDATE_BATCH, _LINK_CREATE = 5, 17, 26, 28
_ENOTSUPP = 524  # the kernel's own: include/linux/errno.h
_NO_EXIST = 1
_LOG_SIZE = 1 << 18


#: A program that does nothing: r0 = 0, exit.
RETURN_ZERO = struct.pack("BBhi", 0xB7, 0, 0, 0) + struct.pack("BBhi", 0x95, 0, 0, 0)


def _bpf(command: int, attr: bytes) -> int:
    buffer = ctypes.create_string_buffer(attr, max(len(attr), 72))
    return syscall("bpf", command, buffer, len(buffer))


def _on_elements(command: int, attr: bytes) -> int:
    with unpreempted():
        return _bpf(command, attr)


class MapShape(NamedTuple):
    """What a map is made from: the first fields of union bpf_attr and of struct bpf_map_info."""

    kind: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0


def create_map(name: str, shape: MapShape, inner: int = 0) -> int:
    """A new map; returns its descriptor. `inner`: of a map like those that it is to hold."""
    raise_memory_limit()
    attr = struct.pack("IIIIIII16s", *shape, inner, 0, name[:15].encode())
    return _bpf(_MAP_CREATE, attr)


def map_shape(fd: int) -> MapShape:
    """The shape of an existing map."""
    info = ctypes.create_string_buffer(_MAP_INFO.size)
    _bpf(_GET_INFO_BY_FD, struct.pack("IIQ", fd, len(info), ctypes.addressof(info)))
    kind, _, *rest = _MAP_INFO.unpack(info.raw)
    return MapShape(kind, *rest)


@dataclass(slots=True)
class Map:
    """A BPF map that this process holds open. Keys and values are bytes of the map's sizes."""

    fd: int
    key_size: int
    value_size: int
    max_entries: int

    def _element(
        self,
        command: int,
        key: bytes,
        value: ctypes.Array[ctypes.c_char] | None,
        flags: int = 0,
    ) -> None:
        key_buffer = ctypes.create_string_buffer(key, self.key_size)
        at = ctypes.addressof(value) if value is not None else 0
        _on_elements(
            command, struct.pack("IxxxxQQQ", self.fd, ctypes.addressof(key_buffer), at, flags)
        )

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
        """Sets the value of a new key; False, and nothing is changed, if the key is there."""
        buffer = ctypes.create_string_buffer(value, self.value_size)
        try:
            self._element(_MAP_UPDATE, key, buffer, _NO_EXIST)
        except OSError as error:
            if error.errno == errno.EEXIST:
                return False
            raise
        return True

    def set_many(self, first: int, values: bytes) -> None:
        """Sets elements of an array from index `first` on; `values` follow each other.

        At once where the kernel can (5.6, commit aa2e93b8e58e), else one by one.
        """
        count = len(values) // self.value_size
        if not count:
            return
        keys = (ctypes.c_uint32 * count)(*range(first, first + count))
        buffer = ctypes.create_string_buffer(values, len(values))
        at = (ctypes.addressof(keys), ctypes.addressof(buffer), count, self.fd)
        try:
            _on_elements(_UPDATE_BATCH, struct.pack("QQQQIIQQ", 0, 0, *at, 0, 0))
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, _ENOTSUPP):
                raise
            for index in range(count):
                value = values[index * self.value_size : (index + 1) * self.value_size]
                self.set(struct.pack("I", first + index), value)

    def delete(self, key: bytes) -> None:
        """Removes the key; one that is not there is none to remove."""
        try:
            self._element(_MAP_DELETE, key, None)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def keys(self) -> Iterator[bytes]:
        """The keys. One that is deleted by the kernel meanwhile restarts the walk at the first."""
        key: bytes | None = None
        after = ctypes.create_string_buffer(self.key_size)
        for _ in range(self.max_entries * 2):
            current = ctypes.create_string_buffer(key, self.key_size) if key is not None else None
            at = ctypes.addressof(current) if current is not None else 0
            attr = struct.pack("IxxxxQQQ", self.fd, at, ctypes.addressof(after), 0)
            try:
                _bpf(_MAP_NEXT_KEY, attr)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return
                raise
            key = after.raw
            yield key

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """One by one.

        BPF_MAP_LOOKUP_BATCH goes through all buckets, full or empty, and the kernel skips programs
        that perf calls on that CPU meanwhile.
        """
        seen: set[bytes] = set()
        for key in self.keys():
            value = None if key in seen else self.get(key)
            seen.add(key)
            if value is not None:
                yield key, value


def create_array(name: str, value_size: int, entries: int, flags: int = 0) -> Map:
    """A new array map; closing its descriptor is the caller's."""
    shape = MapShape(MAP_TYPE_ARRAY, 4, value_size, entries, flags)
    return Map(create_map(name, shape), *shape[1:4])


def create_array_of_maps(name: str, entries: int, inner: Map) -> Map:
    """A new array of maps like `inner`; closing its descriptor is the caller's."""
    shape = MapShape(MAP_TYPE_ARRAY_OF_MAPS, 4, 4, entries)
    return Map(create_map(name, shape, inner.fd), *shape[1:4])


def load_program(
    name: str, instructions: bytes, kind: int, attach_type: int = 0, flags: int = 0
) -> int:
    """Loads a program; returns its descriptor. OSError carries the verifier's last words."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_ = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(_LOG_SIZE)

    def attributes(level: int) -> bytes:
        return struct.pack(
            "IIQQIIQII16sII",
            kind,
            len(instructions) // 8,
            ctypes.addressof(code),
            ctypes.addressof(license_),
            level,
            _LOG_SIZE if level else 0,
            ctypes.addressof(log) if level else 0,
            0,
            flags,
            name[:15].encode(),
            0,
            attach_type,
        )

    try:
        return _bpf(_PROG_LOAD, attributes(0))
    except OSError as error:
        refused = error
    try:
        return _bpf(_PROG_LOAD, attributes(1))  # once more, for the verifier's log
    except OSError:  # it says ENOSPC if the log is too long, whatever else is wrong
        words = " / ".join(log.value.decode(errors="replace").strip().splitlines()[-6:])
    why = os.strerror(refused.errno or 0)
    has_verdict = refused.errno in (errno.EACCES, errno.EINVAL, errno.E2BIG, errno.EPERM)
    raise OSError(refused.errno, f"{why}; {words}" if words and has_verdict else why)


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
    return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("QI", ctypes.addressof(buffer), program))


def link_uprobes(
    program: int, path: str, offsets: Sequence[int], cookies: Sequence[int], pid: int, flags: int
) -> int:
    """Attaches a program to many places of one file in one process (perf.EVERY_PROCESS: in all).

    Linux 6.6, commit 89ae89f53d20 (BPF_TRACE_UPROBE_MULTI). One descriptor holds all the places.
    """
    name = ctypes.create_string_buffer(os.fsencode(path))
    places = (ctypes.c_uint64 * len(offsets))(*offsets)
    values = (ctypes.c_uint64 * len(cookies))(*cookies)
    attr = struct.pack(
        "IIIIQQQQIII",
        program,
        0,
        TRACE_UPROBE_MULTI,
        0,
        ctypes.addressof(name),
        ctypes.addressof(places),
        0,
        ctypes.addressof(values),
        len(offsets),
        flags,
        max(pid, 0),  # 0: every process
    )
    return _bpf(_LINK_CREATE, attr)


def has_uprobe_links() -> bool:
    """Whether this kernel links uprobes: one that does, says that "/" is not a file to probe."""
    program = load_program("probe_links", RETURN_ZERO, PROG_TYPE_KPROBE, TRACE_UPROBE_MULTI)
    try:
        os.close(link_uprobes(program, "/", [0], [0], 0, 0))
    except OSError as error:
        return error.errno == errno.EBADF
    finally:
        os.close(program)
    return True
