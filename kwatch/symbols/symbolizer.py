# SPDX-License-Identifier: Apache-2.0
"""Names for the return addresses of user stacks, from files that may be gone by then."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from queue import SimpleQueue

from kwatch.snapshot import Frame
from kwatch.symbols.elf import Elf, ElfError
from kwatch.symbols.images import Images
from kwatch.symbols.jit import JitCode, executable_memory, is_made_by_program
from kwatch.symbols.libdw import Location
from kwatch.symbols.libdw_api import load_libdw
from kwatch.symbols.lru import Lru
from kwatch.symbols.mappings import AddressSpace, Call, Mapping, is_foreign
from kwatch.symbols.reader import Damaged, NotStarted, Reader

_MODULES = 256
_FRAMES_BYTES = 32 << 20
_FRAME_BYTES = 250  # of a Frame and its place in the cache, without its strings

_REFRESH_S = 1.0

#: Device, inode and path.
_Key = tuple[int, int, str]
_numbers = count(1)


def _nobody(_: object) -> None:
    """Who need not be told."""


@dataclass(slots=True)
class _File:
    """A mapped file, held open. The symbol reader reads it when the first address is asked for.

    `elf` is None where the file is no ELF file that kwatch can read. `root`: where a process of
    another mount namespace sees its files.
    """

    path: str
    elf: Elf | None
    root: str = ""
    readable: bool = True
    number: int = field(default_factory=lambda: next(_numbers))
    version: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.version = self._version()

    def is_current(self) -> bool:
        """Whether the file has not been written since it was opened."""
        return self.version == self._version()

    def _version(self) -> tuple[int, ...]:
        if self.elf is None:
            return ()
        status = os.fstat(self.elf.fileno())
        return status.st_size, status.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Usage:
    """What the symbolizer holds: open files, frames and their bytes, and the symbol reader's
    resident bytes and starts."""

    files: int
    frame_bytes: int
    reader_bytes: int
    reader_starts: int


@dataclass(frozen=True, slots=True)
class _Named:
    """Frames with addresses of 0; `signal`: the next frame was interrupted, it did not call.

    `lasting`: it will be the same whenever it is asked for.
    """

    frames: tuple[Frame, ...]
    signal: bool = False
    lasting: bool = True


class Symbolizer:
    """Names addresses, and remembers files and frames.

    One thread calls `calls` and `prefetch`, while the processes live; the same or another one
    calls `names`. Raises KwatchError at once if libdw is missing; after that, what has no name has
    none. `warn` gets a line for people about each file that cannot be read, in either thread.
    """

    def __init__(self, modules: int = _MODULES, reader: Reader | None = None) -> None:
        load_libdw()
        self.warn: Callable[[str], None] = _nobody
        self._images = Images()
        self._reader = reader or Reader()
        self._lock = threading.Lock()  # of the files
        self._files: Lru[_Key, _File] = Lru(modules, on_evict=self._retire)
        self._retired: SimpleQueue[_File] = SimpleQueue()
        self._frames: Lru[tuple[int, int, int], _Named] = Lru(_FRAMES_BYTES, weigh=_weight)
        self._jit = JitCode(self._warn_once)
        self._warned: set[str] = set()
        self._refreshed: dict[int, float] = {}
        with contextlib.suppress(NotStarted):  # it is tried again when there is something to read
            self._reader.start()

    def frames(self, pid: int, space: AddressSpace, addresses: Sequence[int]) -> tuple[Frame, ...]:
        """`calls` and their `names` at once."""
        return self.names(pid, self.calls(pid, space, addresses))

    def calls(self, pid: int, space: AddressSpace, addresses: Sequence[int]) -> list[Call]:
        """Where return addresses lie, innermost first, up to the first outside all code.

        A chain of frame pointers may end in garbage, hence the cut.
        """
        calls: list[Call] = []
        for address in addresses:
            call = space.call(address)
            if call is None:
                self._refresh(pid, space)
                call = space.call(address)
            if call is None:
                break
            calls.append(call)
        return calls

    def names(self, pid: int, calls: Sequence[Call]) -> tuple[Frame, ...]:
        """The frames of calls, innermost first.

        Where a signal interrupted the function, the address itself is looked up. Inlined functions
        come before the function that they are in, with its address and offset. Without a symbol, a
        frame's offset is the file's own virtual address, or that in the file or memory.
        """
        self._close_files()
        named = self._named(pid, calls)
        for index in range(1, len(calls)):
            if named[index - 1].signal:
                named[index] = self._named(pid, [calls[index].interrupted()])[0]
        return tuple(
            replace(frame, address=call.address)
            for call, each in zip(calls, named, strict=True)
            for frame in each.frames
        )

    def prefetch(self, pid: int, mapping: Mapping) -> None:
        """Opens the mapped file while the process lives: afterwards it may be out of reach."""
        self._file(pid, mapping)

    def usage(self) -> Usage:
        reader = self._reader
        return Usage(len(self._files), self._frames.weight, reader.resident, reader.starts)

    def close(self) -> None:
        self._reader.stop()
        self._jit.close()
        for file in self._files.drain():
            self._retire(file)
        self._close_files()

    def _refresh(self, pid: int, space: AddressSpace) -> None:
        """What was mapped a moment ago may not have been told of yet, so look once in a while."""
        now = time.monotonic()
        if now < self._refreshed.get(pid, 0.0) + _REFRESH_S:
            return
        if len(self._refreshed) >= _MODULES:
            self._refreshed.clear()
        self._refreshed[pid] = now
        for mapping in executable_memory(pid):
            if space.find(mapping.start) is None:
                space.add(mapping)

    def _named(self, pid: int, calls: Sequence[Call]) -> list[_Named]:
        """One answer for each call. The reader is asked once for each file."""
        answers: dict[Call, _Named] = {}
        missing: dict[int, tuple[_File, list[Call]]] = {}
        files: dict[int, _File | None] = {}  # by the mapping's identity: one look for a stack
        for call in dict.fromkeys(calls):
            if id(call.mapping) not in files:
                files[id(call.mapping)] = self._file(pid, call.mapping)
            file = files[id(call.mapping)]
            if file is None or file.elf is None:
                answers[call] = self._without_file(pid, call)
                continue
            known = self._frames.get((file.number, call.offset, call.step))
            if known is not None:
                answers[call] = known
            else:
                missing.setdefault(file.number, (file, []))[1].append(call)
        for file, some in missing.values():
            for call, named in zip(some, self._describe(file, some), strict=True):
                answers[call] = named
                if named.lasting:
                    self._frames.put((file.number, call.offset, call.step), named)
        return [answers[call] for call in calls]

    def _without_file(self, pid: int, call: Call) -> _Named:
        frame = None
        if is_made_by_program(call.mapping):
            frame = self._jit.frame(pid, call.address, call.looked_up)
        offset = call.offset + call.step if call.mapping.path else 0
        return _Named((frame or Frame(0, "", offset, call.mapping.path),), lasting=False)

    def _describe(self, file: _File, calls: list[Call]) -> list[_Named]:
        vaddrs = [file.elf.vaddr_of(call.offset) if file.elf else None for call in calls]
        locations, lasting = self._locate(file, [vaddr for vaddr in vaddrs if vaddr is not None])
        located = [locations.get(vaddr) if vaddr is not None else None for vaddr in vaddrs]
        return [
            _named_by(file, call, vaddr, location, lasting)
            for call, vaddr, location in zip(calls, vaddrs, located, strict=True)
        ]

    def _locate(self, file: _File, vaddrs: list[int]) -> tuple[dict[int, Location], bool]:
        """Locations by address as far as they are known, and whether more will not be known."""
        if file.elf is None or not file.readable or not vaddrs:
            return {}, True
        try:
            answer = self._reader.locate(
                file.number, file.elf.fileno(), file.path, file.root, vaddrs
            )
        except Damaged as error:
            file.readable = False
            self._warn_nameless(file.path, str(error))
            return {}, True
        except NotStarted as error:
            self._warn_nameless("", str(error))
            return {}, False
        return dict(zip(vaddrs, answer.locations, strict=True)), not answer.partial

    def _warn_nameless(self, path: str, reason: str) -> None:
        whose = "its functions" if path else "functions"
        self._warn_once(path, f"{reason}; {whose} are shown as module and offset")

    def _warn_once(self, path: str, line: str) -> None:
        if path not in self._warned and len(self._warned) < _MODULES:
            self._warned.add(path)
            self.warn(line)

    def _file(self, pid: int, mapping: Mapping) -> _File | None:
        """None if the file cannot be found now; another process may still lead to it later."""
        key = mapping.device, mapping.inode, mapping.path
        with self._lock:
            file = self._files.get(key)
            if file is not None and not file.is_current():
                self._retire(self._files.remove(key))
                file = None
            if file is None:
                file = self._open(pid, mapping)
                if file is not None:
                    self._files.put(key, file)
            return file

    def _open(self, pid: int, mapping: Mapping) -> _File | None:
        try:
            elf = self._images.open(pid, mapping)
        except ElfError as error:
            if not mapping.path.startswith("/memfd:"):
                self._warn_nameless(mapping.path, f"{mapping.path}: {error.reason}")
            return _File(mapping.path, None)
        return None if elf is None else _File(mapping.path, elf, _foreign_root(pid))

    def _retire(self, file: _File) -> None:
        """The file may be in use by `names`, which closes it when it is not."""
        self._retired.put(file)

    def _close_files(self) -> None:
        while not self._retired.empty():
            file = self._retired.get()
            self._reader.forget(file.number)
            if file.elf is not None:
                file.elf.close()


def _foreign_root(pid: int) -> str:
    return f"/proc/{pid}/root" if is_foreign(pid) else ""


def _named_by(
    file: _File, call: Call, vaddr: int | None, location: Location | None, lasting: bool
) -> _Named:
    if location is None or vaddr is None:
        offset = call.offset if vaddr is None else vaddr
        return _Named((Frame(0, "", offset + call.step, file.path),), lasting=lasting)
    within = vaddr if location.offset is None else location.offset
    *inlined, whole = [
        Frame(0, place.name, within + call.step, file.path, place.file, place.line)
        for place in location.places
    ]
    frames = (*(replace(frame, inlined=True) for frame in inlined), whole)
    return _Named(frames, location.signal, lasting)


def _weight(named: _Named) -> int:
    """Bytes, about."""
    return sum(_FRAME_BYTES + len(frame.symbol) + len(frame.file) for frame in named.frames)
