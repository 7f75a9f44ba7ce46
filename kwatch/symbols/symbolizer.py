# SPDX-License-Identifier: Apache-2.0
"""Names for the return addresses of user stacks, from files that may be gone by then."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from kwatch.model.frame import Frame
from kwatch.procfs.address_space import AddressSpace, ReturnAddress
from kwatch.procfs.mappings import Mapping
from kwatch.symbols.dwarf.libdw import Location
from kwatch.symbols.dwarf.libdw_api import load_libdw
from kwatch.symbols.jit import JitCode, executable_memory
from kwatch.symbols.open_files import MAX_FILES, OpenFile, OpenFiles
from kwatch.symbols.reader import Damaged, NotStarted, Reader
from kwatch.symbols.stack import Stack
from kwatch.system.lru import Lru

_AT_ONCE = 64  # addresses in a request to the reader, whose time is limited
_FRAMES_BYTES = 32 << 20
_FRAME_BYTES = 250  # of a Frame and its place in the cache, without its strings

_REFRESH_S = 1.0


def _nobody(_: object) -> None:
    """Who need not be told."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the symbolizer holds: open files, frames and their bytes, and the symbol reader's
    resident bytes."""

    files: int
    frame_bytes: int
    reader_bytes: int


@dataclass(frozen=True, slots=True)
class _Named:
    """The frames of one call, kept with addresses of 0.

    `signal`: the next frame was interrupted, it did not call. `lasting`: it will be the same
    whenever it is asked for. `unread`: it has no name because nobody has looked.
    """

    frames: tuple[Frame, ...]
    signal: bool = False
    lasting: bool = True
    unread: bool = False

    def at(self, address: int) -> _Named:
        frames = tuple([replace(frame, address=address) for frame in self.frames])
        return replace(self, frames=frames)


class Symbolizer:
    """Names addresses, and remembers files and frames.

    One thread calls `stack` and `prefetch`, while the processes live; the same or another one asks
    for names, perhaps much later. Raises KwatchError at once if libdw is missing; after that, what
    has no name has none. `warn` gets a line for people about each file that cannot be read, in
    either thread.
    """

    def __init__(
        self,
        files: int = MAX_FILES,
        reader: Reader | None = None,
        warn: Callable[[str], None] = _nobody,
    ) -> None:
        load_libdw()
        self.warn = warn
        self._files = OpenFiles(files, self._warn_nameless)
        self._reader = reader or Reader()
        self._frames: Lru[tuple[int, int, int], _Named] = Lru(_FRAMES_BYTES, weigh=_weight)
        self._jit = JitCode(self._warn_once)
        self._warned: set[str] = set()
        self._refreshed: dict[int, float] = {}
        self._hurried = False
        with contextlib.suppress(NotStarted):  # it is tried again when there is something to read
            self._reader.start()

    def stack(self, pid: int, space: AddressSpace, addresses: Sequence[int]) -> Stack:
        """Where return addresses lie, innermost first, up to the first outside all code.

        A chain of frame pointers may end in garbage, hence the cut.
        """
        calls: list[ReturnAddress] = []
        for address in addresses:
            call = space.return_address(address)
            if call is None:
                self._refresh(pid, space)
                call = space.return_address(address)
            if call is None:
                break
            calls.append(call)
        return Stack(pid, tuple(calls), seen_ns=time.monotonic_ns())

    def name_made(self, stack: Stack) -> None:
        """Names the code that the program has made, by what is there now."""
        if not self._hurried:
            self._jit.name(stack)

    def frames(self, stacks: Sequence[Stack]) -> list[tuple[Frame, ...]]:
        """The frames of each stack, innermost first.

        Where a signal interrupted the function, the address itself is looked up. Inlined functions
        come before the function that they are in, with its address and offset. Without a symbol, a
        frame's offset is the file's own virtual address, or that in the file or memory.
        """
        self.close_retired()
        unnamed = [stack for stack in stacks if not stack.frames]
        names = self._names((stack, call) for stack in unnamed for call in stack.addresses)
        interrupted = {
            call: (stack, call.interrupted())
            for stack in unnamed
            for before, call in pairwise(stack.addresses)
            if names[before].signal
        }
        more = self._names(interrupted.values())
        after_signal = {call: more[inside] for call, (_, inside) in interrupted.items()}
        return [stack.frames or _assembled(stack, names, after_signal) for stack in stacks]

    def first(self, stacks: Sequence[Stack], wanted: Callable[[Frame], bool]) -> list[Frame | None]:
        """Of each stack the innermost frame that is wanted; no more is named than that takes.

        None if there is none, or if it depends on a name that nobody has looked for: see `hurry`.
        """
        self.close_retired()
        found = [next(filter(wanted, stack.frames), None) for stack in stacks]
        left = [index for index, stack in enumerate(stacks) if not stack.frames]
        depth = 0
        while left := [i for i in left if found[i] is None and depth < len(stacks[i].addresses)]:
            names = self._names((stacks[i], stacks[i].addresses[depth]) for i in left)
            for i in left:
                call = stacks[i].addresses[depth]
                frames = _made(stacks[i], call) or names[call].frames
                found[i] = next(filter(wanted, frames), None)
            unread = {i for i in left if names[stacks[i].addresses[depth]].unread}
            for i in unread:
                found[i] = None
            left = [i for i in left if i not in unread]
            depth += 1
        return found

    def hurry(self) -> None:
        """What is not known yet is not read any more: it stays without a name.

        May be called by any thread; what is being read at the moment is given up.
        """
        self._hurried = True
        self._reader.give_up()

    def prefetch(self, pid: int, mapping: Mapping) -> bool:
        """Opens the mapped file while the process lives: afterwards it may be out of reach.

        Whether its debug file may be, too: then `find_debug_file` should follow.
        """
        file = self._files.get(pid, mapping)
        return file is not None and bool(file.root) and not file.has_debug_file

    def find_debug_file(self, pid: int, mapping: Mapping) -> None:
        """Lets the reader open the debug file, which only the process may lead to."""
        file = self._files.get(pid, mapping)
        vaddr = file.elf.vaddr_of(mapping.offset) if file is not None and file.elf else None
        if file is not None and vaddr is not None and not file.has_debug_file:
            file.has_debug_file = True
            self._locate(file, [vaddr])

    @property
    def has_retired(self) -> bool:
        """Whether files wait to be closed by `close_retired`."""
        return self._files.has_retired

    def close_retired(self) -> None:
        """Closes files that are needed no more; for the thread that asks for names."""
        for file in self._files.retired():
            self._reader.forget(file.number)
            if file.elf is not None:
                file.elf.close()

    def usage(self) -> Usage:
        return Usage(len(self._files), self._frames.weight, self._reader.resident)

    def close(self) -> None:
        self._reader.stop()
        self._jit.close()
        self._files.retire_all()
        self.close_retired()

    def _refresh(self, pid: int, space: AddressSpace) -> None:
        """What was mapped a moment ago may not have been told of yet, so look once in a while."""
        now = time.monotonic()
        if now < self._refreshed.get(pid, 0.0) + _REFRESH_S:
            return
        if len(self._refreshed) >= MAX_FILES:
            self._refreshed.clear()
        self._refreshed[pid] = now
        for mapping in executable_memory(pid):
            if space.find(mapping.start) is None:
                space.add(mapping)

    def _names(self, calls: Iterable[tuple[Stack, ReturnAddress]]) -> dict[ReturnAddress, _Named]:
        """With addresses. `calls`: each with its stack, or one of them."""
        found: dict[ReturnAddress, _Named] = {}
        missing: dict[int, tuple[OpenFile, list[ReturnAddress]]] = {}
        files: dict[int, OpenFile | None] = {}  # by identity of the mapping: one look each
        for call, stack in {call: stack for stack, call in calls}.items():
            if id(call.mapping) not in files:
                files[id(call.mapping)] = self._files.get(stack.pid, call.mapping)
            file = files[id(call.mapping)]
            if file is None or file.elf is None or stack.seen_ns < file.since_ns:
                found[call] = _Named((call.unnamed,), lasting=file is not None or call.is_made)
                continue
            known = self._frames.get((file.number, call.offset, call.step))
            if known is not None:
                found[call] = known
            else:
                missing.setdefault(file.number, (file, []))[1].append(call)
        for file, some in missing.values():
            for start in range(0, len(some), _AT_ONCE):
                found.update(self._read(file, some[start : start + _AT_ONCE]))
        return {call: named.at(call.address) for call, named in found.items()}

    def _read(
        self, file: OpenFile, calls: list[ReturnAddress]
    ) -> Iterator[tuple[ReturnAddress, _Named]]:
        for call, named in zip(calls, self._describe(file, calls), strict=True):
            if named.lasting:
                self._frames.put((file.number, call.offset, call.step), named)
            yield call, named

    def _describe(self, file: OpenFile, calls: list[ReturnAddress]) -> list[_Named]:
        vaddrs = [file.elf.vaddr_of(call.offset) if file.elf else None for call in calls]
        locations, lasting = self._locate(file, [vaddr for vaddr in vaddrs if vaddr is not None])
        located = [locations.get(vaddr) if vaddr is not None else None for vaddr in vaddrs]
        return [
            _named_by(file, call, vaddr, location, lasting)
            for call, vaddr, location in zip(calls, vaddrs, located, strict=True)
        ]

    def _locate(self, file: OpenFile, vaddrs: list[int]) -> tuple[dict[int, Location], bool]:
        """Locations by address as far as they are known, and whether more will not be known."""
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
            self._warn_nameless(file.path, str(error))
            return {}, True
        except NotStarted as error:
            if not self._hurried:
                self._warn_nameless("", str(error))
            return {}, False
        return dict(zip(vaddrs, answer.locations, strict=True)), not answer.partial

    def _warn_nameless(self, path: str, reason: str) -> None:
        whose = "its functions" if path else "functions"
        self._warn_once(path, f"{reason}; {whose} are shown as module and offset")

    def _warn_once(self, path: str, line: str) -> None:
        if path not in self._warned and len(self._warned) < MAX_FILES:
            self._warned.add(path)
            self.warn(line)


def _named_by(
    file: OpenFile, call: ReturnAddress, vaddr: int | None, location: Location | None, lasting: bool
) -> _Named:
    if location is None or vaddr is None:
        offset = call.offset if vaddr is None else vaddr
        frame = Frame(0, "", offset + call.step, file.path)
        return _Named((frame,), lasting=lasting, unread=not lasting)
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


def _assembled(
    stack: Stack, names: dict[ReturnAddress, _Named], after_signal: dict[ReturnAddress, _Named]
) -> tuple[Frame, ...]:
    """The frames of a stack, which keeps them if they will not change."""
    frames: list[Frame] = []
    lasting = True
    for before, call in zip((None, *stack.addresses), stack.addresses, strict=False):
        interrupted = before is not None and names[before].signal
        named = after_signal[call] if interrupted else names[call]
        frames.extend(_made(stack, call) or named.frames)
        lasting &= named.lasting
    if lasting:
        stack.frames = tuple(frames)
    return tuple(frames)


def _made(stack: Stack, call: ReturnAddress) -> tuple[Frame, ...]:
    frame = stack.made.get(call)
    return () if frame is None else (frame,)
