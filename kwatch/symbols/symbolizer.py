# SPDX-License-Identifier: Apache-2.0
"""Names the return addresses of user stacks, also of processes that have exited."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kwatch.elf.elf import Elf, ElfError
from kwatch.model.frame import Frame
from kwatch.ownership.code import Code
from kwatch.procfs.address_space import AddressSpace, ReturnAddress
from kwatch.procfs.mappings import Mapping
from kwatch.symbols.dwarf.libdw_api import load_libdw
from kwatch.symbols.frame_cache import FrameCache, Named
from kwatch.symbols.jit import JitCode, executable_memory
from kwatch.symbols.open_files import MAX_FILES, OpenFiles
from kwatch.symbols.reader import NotStarted, Reader
from kwatch.symbols.stack import Stack, up_to

_REFRESH_S = 1.0
_MAX_CODE = 1 << 13  # bytes of a function before a call
_CODE_AROUND = 1 << 14  # bytes around it, with functions that it calls


def _ignore(_: str) -> None:
    """Drops a warning."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the symbolizer holds: open files, bytes of frames, resident bytes of the reader."""

    files: int
    frame_bytes: int
    reader_bytes: int


class Symbolizer:
    """Names return addresses, and remembers files and frames.

    One thread calls `stack` and `prefetch` while the processes run. The same thread or another one
    asks for names, perhaps much later. Raises KwatchError at once if libdw is missing; after that,
    an address that cannot be named has no name. `warn` gets a line for people about each file that
    cannot be read, in either thread.
    """

    def __init__(
        self,
        files: int = MAX_FILES,
        reader: Reader | None = None,
        warn: Callable[[str], None] = _ignore,
    ) -> None:
        load_libdw()
        self._warn = warn
        self._files = OpenFiles(files, self._warn_nameless)
        self._reader = reader or Reader()
        self._cache = FrameCache(self._files, self._reader, self._warn_nameless)
        self._jit = JitCode(self._warn_once)
        self._warned: set[str] = set()
        self._refreshed: dict[int, float] = {}
        self._hurried = False
        with contextlib.suppress(NotStarted):  # `locate` tries again
            self._reader.start()

    def stack(self, pid: int, space: AddressSpace, addresses: Sequence[int]) -> Stack:
        """The return addresses, innermost first, up to the first one outside all code.

        A chain of frame pointers may end in garbage, hence the cut.
        """
        found: list[ReturnAddress] = []
        for address in addresses:
            return_address = space.return_address(address)
            if return_address is None:
                self._refresh(pid, space)
                return_address = space.return_address(address)
            if return_address is None:
                break
            found.append(return_address)
        return Stack(pid, tuple(found), seen_ns=time.monotonic_ns())

    def name_generated(self, stack: Stack) -> None:
        """Names the code that the process has generated, as it is now."""
        if not self._hurried:
            self._jit.name(stack)

    def frames(self, stacks: Sequence[Stack]) -> list[tuple[Frame, ...]]:
        """The frames of each stack, innermost first.

        Where a signal interrupted the function, the address itself is looked up. Inlined functions
        come before the function that contains them, with its address and offset. A frame without a
        symbol has as its offset the file's own virtual address, or the offset in the file or in
        memory.
        """
        self.close_retired()
        unnamed = [stack for stack in stacks if not stack.frames]
        names = self._cache.names((stack, each) for stack in unnamed for each in stack.addresses)
        interrupted = {
            each: (stack, each.interrupted())
            for stack in unnamed
            for before, each in pairwise(stack.addresses)
            if names[before].signal
        }
        more = self._cache.names(interrupted.values())
        after_signal = {each: more[inside] for each, (_, inside) in interrupted.items()}
        return [stack.frames or _assembled(stack, names, after_signal) for stack in stacks]

    def leading(
        self, stacks: Sequence[Stack], is_last: Callable[[Frame], bool]
    ) -> list[tuple[Frame, ...]]:
        """The innermost frames of each stack, up to the first for which `is_last` is true.

        Names no more frames than that takes. All frames if there is none; no frame if that depends
        on a name that was not read because of `hurry`.
        """
        self.close_retired()
        found = [list(stack.frames) for stack in stacks]
        left = [index for index, stack in enumerate(stacks) if not stack.frames]
        depth = 0
        while left := [i for i in left if depth < len(stacks[i].addresses)]:
            names = self._cache.names((stacks[i], stacks[i].addresses[depth]) for i in left)
            more = []
            for i in left:
                named = names[stacks[i].addresses[depth]]
                frames = _frames_at(stacks[i], depth, named)
                found[i] = [] if named.unread else [*found[i], *frames]
                if not named.unread and not any(map(is_last, frames)):
                    more.append(i)
            left = more
            depth += 1
        return [up_to(frames, is_last) for frames in found]

    def code(self, stack: Stack, address: ReturnAddress, offset: int) -> Code | None:
        """The code of the function that the address returns to, `offset` bytes behind its entry.

        None if the file cannot be read, or if its names are not read any more.
        """
        file = self._files.get(stack.pid, address.mapping)
        if file is None or file.elf is None or stack.seen_ns < file.since_ns or self._hurried:
            return None
        try:
            vaddr = file.elf.vaddr_of(address.offset)
            if vaddr is None:
                return None
            after = vaddr + address.step
            start, data = _code_around(file.elf, after - offset, min(offset, _MAX_CODE))
        except ElfError:
            return None
        return Code(file.elf.machine, start, data, after - offset, after, file.identities)

    def hurry(self) -> None:
        """Files are not read any more: what has no name yet stays without one.

        Any thread may call it; a read in progress is abandoned.
        """
        self._hurried = True
        self._cache.hurry()

    def prefetch(self, pid: int, mapping: Mapping) -> bool:
        """Opens the mapped file while the process runs: later it may be out of reach.

        Returns whether its debug file may go out of reach, too: then call `find_debug_file`.
        """
        file = self._files.get(pid, mapping)
        return file is not None and bool(file.root) and not file.has_debug_file

    def find_debug_file(self, pid: int, mapping: Mapping) -> None:
        """Lets the reader open the debug file, which may be visible to the process only."""
        file = self._files.get(pid, mapping)
        vaddr = file.elf.vaddr_of(mapping.offset) if file is not None and file.elf else None
        if file is not None and vaddr is not None and not file.has_debug_file:
            file.has_debug_file = True
            self._cache.locate(file, [vaddr])

    @property
    def has_retired(self) -> bool:
        """Whether files wait to be closed by `close_retired`."""
        return self._files.has_retired

    def close_retired(self) -> None:
        """Closes files that are no longer needed; for the thread that asks for names."""
        for file in self._files.retired():
            self._reader.forget(file.number)
            if file.elf is not None:
                file.elf.close()

    def usage(self) -> Usage:
        return Usage(len(self._files), self._cache.bytes, self._reader.resident)

    def close(self) -> None:
        self._reader.stop()
        self._jit.close()
        self._files.retire_all()
        self.close_retired()

    def _refresh(self, pid: int, space: AddressSpace) -> None:
        """Adds code that was mapped a moment ago, whose event may not have arrived yet."""
        now = time.monotonic()
        if now < self._refreshed.get(pid, 0.0) + _REFRESH_S:
            return
        if len(self._refreshed) >= MAX_FILES:
            self._refreshed.clear()
        self._refreshed[pid] = now
        for mapping in executable_memory(pid):
            if space.find(mapping.start) is None:
                space.add(mapping)

    def _warn_nameless(self, path: str, reason: str) -> None:
        whose = "its functions" if path else "functions"
        self._warn_once(path, f"{reason}; {whose} are shown as module and offset")

    def _warn_once(self, path: str, line: str) -> None:
        if path not in self._warned and len(self._warned) < MAX_FILES:
            self._warned.add(path)
            self._warn(line)


def _code_around(elf: Elf, entry: int, size: int) -> tuple[int, bytes]:
    """What the file has around a function, and the virtual address at which that begins."""
    before = next((b for b in (_CODE_AROUND, 0) if elf.offset_of(entry - b) is not None), 0)
    return entry - before, elf.read(entry - before, before + size + _CODE_AROUND)


def _assembled(
    stack: Stack, names: dict[ReturnAddress, Named], after_signal: dict[ReturnAddress, Named]
) -> tuple[Frame, ...]:
    """The frames of a stack, which keeps them if they are final."""
    frames: list[Frame] = []
    is_interrupted, is_final = False, True
    for depth, address in enumerate(stack.addresses):
        named = after_signal[address] if is_interrupted else names[address]
        frames.extend(_frames_at(stack, depth, named))
        is_interrupted = names[address].signal
        is_final &= named.final
    if is_final:
        stack.frames = tuple(frames)
    return tuple(frames)


def _frames_at(stack: Stack, depth: int, named: Named) -> tuple[Frame, ...]:
    """What a perf map named when the stack was seen comes before what files say."""
    generated = stack.generated.get(stack.addresses[depth])
    return named.frames if generated is None else (generated,)
