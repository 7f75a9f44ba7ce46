# SPDX-License-Identifier: Apache-2.0
"""Frames of the return addresses that lie in files, read once and remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from kwatch.model.c_library import is_c_library
from kwatch.model.frame import Frame
from kwatch.procfs.address_space import ReturnAddress
from kwatch.symbols.dwarf.libdw import Location
from kwatch.symbols.open_files import OpenFile, OpenFiles
from kwatch.symbols.reader import Damaged, NotStarted, Reader
from kwatch.symbols.stack import Stack
from kwatch.symbols.tail_calls import TailCalls
from kwatch.system.lru import Lru

_MAX_REQUEST = 64  # addresses in a request to the reader, whose time is limited
_MAX_BYTES = 32 << 20
_MAX_C_LIBRARIES = 32  # with their loaders
_FRAME_BYTES = 250  # of a Frame and its entry in the cache, without its strings


@dataclass(frozen=True, slots=True)
class Named:
    """The frames of one return address: inlined functions, then the function that contains them.

    `signal`: the code returns from a signal, so the next frame was interrupted and made no call.
    `final`: the frames will never be others. `unread`: the address has no name because nobody has
    read the file.
    """

    frames: tuple[Frame, ...]
    signal: bool = False
    final: bool = True
    unread: bool = False

    def at(self, address: int) -> Named:
        frames = tuple([replace(frame, address=address) for frame in self.frames])
        return replace(self, frames=frames)


class FrameCache:
    """Keeps the frames that were used last, by file and offset.

    `on_error` gets the path of a file whose functions have no names, and why. The path is empty
    if the reason applies to all files.
    """

    def __init__(
        self, files: OpenFiles, reader: Reader, on_error: Callable[[str, str], None]
    ) -> None:
        self._files = files
        self._reader = reader
        self._on_error = on_error
        self._frames: Lru[tuple[int, int, int], Named] = Lru(_MAX_BYTES, weigh=_weight)
        self._tail_calls: Lru[int, TailCalls] = Lru(_MAX_C_LIBRARIES)
        self._hurried = False

    @property
    def bytes(self) -> int:
        """Memory that the frames take, about."""
        return self._frames.weight

    def hurry(self) -> None:
        """From now on files are not read: what is not in the cache has no name."""
        self._hurried = True
        self._reader.give_up()

    def names(self, addresses: Iterable[tuple[Stack, ReturnAddress]]) -> dict[ReturnAddress, Named]:
        """The frames of each return address, which comes with one of its stacks."""
        found: dict[ReturnAddress, Named] = {}
        missing: dict[int, tuple[OpenFile, list[ReturnAddress]]] = {}
        files: dict[int, OpenFile | None] = {}  # by identity of the mapping: one look-up each
        for address, stack in {address: stack for stack, address in addresses}.items():
            if id(address.mapping) not in files:
                files[id(address.mapping)] = self._files.get(stack.pid, address.mapping)
            file = files[id(address.mapping)]
            if file is None or file.elf is None or stack.seen_ns < file.since_ns:
                final = file is not None or address.is_generated
                found[address] = Named((address.unnamed,), final=final)
                continue
            known = self._frames.get((file.number, address.offset, address.step))
            if known is not None:
                found[address] = known
            else:
                missing.setdefault(file.number, (file, []))[1].append(address)
        for file, some in missing.values():
            for start in range(0, len(some), _MAX_REQUEST):
                found.update(self._read(file, some[start : start + _MAX_REQUEST]))
        return {address: named.at(address.address) for address, named in found.items()}

    def locate(self, file: OpenFile, vaddrs: list[int]) -> tuple[dict[int, Location], bool]:
        """Locations by virtual address as far as they are known, and whether that is final."""
        if file.elf is None or not file.is_readable or not vaddrs:
            return {}, True
        if self._hurried:
            return {}, False
        try:
            answer = self._reader.locate(
                file.number, file.elf.fileno(), file.path, file.root, vaddrs
            )
        except Damaged as error:
            file.is_readable = False
            self._on_error(file.path, str(error))
            return {}, True
        except NotStarted as error:
            if not self._hurried:
                self._on_error("", str(error))
            return {}, False
        return dict(zip(vaddrs, answer.locations, strict=True)), not answer.partial

    def _read(
        self, file: OpenFile, addresses: list[ReturnAddress]
    ) -> Iterator[tuple[ReturnAddress, Named]]:
        vaddrs = [file.elf.vaddr_of(address.offset) if file.elf else None for address in addresses]
        locations, final = self.locate(file, [vaddr for vaddr in vaddrs if vaddr is not None])
        for address, vaddr in zip(addresses, vaddrs, strict=True):
            location = locations.get(vaddr) if vaddr is not None else None
            if vaddr is None or location is None:
                offset = address.offset if vaddr is None else vaddr
                frame = address.frame(offset, file.path)
                named = Named((frame,), final=final, unread=not final)
            else:
                *inlined, function = _frames(address, file.path, vaddr, location)
                function = self._entered_by_jump(file, address, vaddr, function)
                named = Named((*inlined, function), location.signal, final)
            if final:
                self._frames.put((file.number, address.offset, address.step), named)
            yield address, named

    def _entered_by_jump(
        self, file: OpenFile, address: ReturnAddress, vaddr: int, frame: Frame
    ) -> Frame:
        """In the C library, a function without a name gets that of the one that jumps to it."""
        if frame.symbol or file.elf is None or not is_c_library(frame):
            return frame
        known = self._tail_calls.get(file.number)
        if known is None:
            known = TailCalls(file.elf)
            self._tail_calls.put(file.number, known)
        found = known.find(vaddr)
        return address.frame(found[1], file.path, found[0]) if found else frame


def _frames(address: ReturnAddress, path: str, vaddr: int, location: Location) -> tuple[Frame, ...]:
    offset = vaddr if location.offset is None else location.offset
    *inlined, function = [
        address.frame(offset, path, place.name, place.file, place.line) for place in location.places
    ]
    return *(replace(frame, inlined=True) for frame in inlined), function


def _weight(named: Named) -> int:
    """Bytes, about."""
    return sum(_FRAME_BYTES + len(frame.symbol) + len(frame.file) for frame in named.frames)
