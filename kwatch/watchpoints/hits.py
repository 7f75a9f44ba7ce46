# SPDX-License-Identifier: Apache-2.0
"""Sums up hits by place, and finds the instruction and the names of each place once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kwatch.kernel.breakpoints import Access
from kwatch.model.frame import Ending, Frame
from kwatch.model.hit_place import Doubt, HitPlace, Instruction
from kwatch.procfs.address_space import AddressSpace, ReturnAddress
from kwatch.symbols.stack import Stack
from kwatch.symbols.symbolizer import Symbolizer
from kwatch.symbols.symbolizer_thread import Job, SymbolizerThread
from kwatch.syscalls.names import name as call_name
from kwatch.system.lru import Lru
from kwatch.watchpoints.instruction import InstructionFinder
from kwatch.watchpoints.site import Part, Site
from kwatch.watchpoints.watched import Watched
from kwatch.wire.allocators import ALLOCATOR_FUNCTIONS
from kwatch.wire.events import NO_CALL, Abi, Batch, HitFlag

_PATIENCE_NS = 1_000_000_000  # for a stack that has not arrived yet
_LETTERS = {Access.WRITE: "w", Access.READ_WRITE: "rw", Access.EXECUTE: "x"}
_LOOK_S = 0.1  # between looks whether the thread that names has failed
_WORD = 8
#: Functions of glibc that a thread may be in without one of those: at its end, in malloc_trim().
_OF_GLIBC = "_int_free _int_malloc malloc_consolidate malloc_trim systrim tcache_thread_shutdown"
_PREFIXES = ("__GI_", "__libc_")  # of the names in its debug information
_ALLOCATORS = {*_OF_GLIBC.split(), *(function.name for function in ALLOCATOR_FUNCTIONS)}
_MAX_STACKS = 65_536
_MAX_PLACES = 4096

#: What is watched at a time, or None if a hit at that time does not count.
WatchedAt = Callable[[int], Watched | None]


class _Key(NamedTuple):
    pid: int
    group: int  # see Watched
    ip: int
    stack: int
    flags: int
    abi: int
    nr: int


#: Without the id of the stack, and the addresses of the stack.
_Found = tuple[_Key, tuple[int, ...]]

_COLUMNS = ("tgid", "ip", "stack", "flags", "abi", "nr", "address", "tid", "time_ns", "sp", "value")


class Hits:
    """`watched_at` and `site` say what the hits are of. Places are in the order of first hits."""

    def __init__(self, site: Site, watched_at: WatchedAt) -> None:
        self.count = 0
        self.ignored = 0  # while something else was at the address
        self.unlisted = 0  # with more places than are kept
        self._site = site
        self._watched_at = watched_at
        self._places: dict[_Key, HitPlace] = {}
        self._found: dict[_Found, HitPlace] = {}
        self._sp: dict[_Key, int] = {}
        self._waiting: list[_Key] = []
        self._stacks: Lru[tuple[int, int], Stack] = Lru(_MAX_STACKS)
        self._finders: dict[int, InstructionFinder] = {}

    @property
    def places(self) -> list[HitPlace]:
        distinct = {id(place): place for place in self._places.values()}
        return list(distinct.values())

    @property
    def unexpected(self) -> int:
        """Hits that are not the allocator's own; those of places without names do not count yet."""
        if self._site.part is Part.LIVE:
            return self.count
        waiting = {id(self._places[key]) for key in self._waiting}
        named = [place for place in self.places if id(place) not in waiting]
        return sum(place.count for place in named if not place.is_expected)

    def add_stack(self, pid: int, identity: int, stack: Stack) -> None:
        self._stacks.put((pid, identity), stack)

    def add(self, batch: Batch) -> None:
        """Takes events of kwatch.wire.events.HIT, in order of time."""
        for row in zip(*(batch[name].tolist() for name in _COLUMNS), strict=True):
            pid, *where, address, tid, time_ns, sp, value = row
            watched = self._watched_at(time_ns)
            if watched is None or watched.breakpoint.address != address:
                self.ignored += 1
                continue
            self.count += 1
            key = _Key(pid, watched.group, *where)
            if key not in self._places:
                if len(self._places) >= _MAX_PLACES:
                    self.unlisted += 1
                    continue
                self._places[key] = self._place(key, watched, tid, time_ns, value)
                self._sp[key] = sp
                self._waiting.append(key)
            place = self._places[key]
            place.threads[tid] += 1
            place.unsure &= watched.is_unsure

    def _place(self, key: _Key, watched: Watched, tid: int, time_ns: int, value: int) -> HitPlace:
        at, flags = watched.breakpoint, HitFlag(key.flags)
        has_value = HitFlag.HAS_VALUE in flags
        return HitPlace(
            key.pid,
            self._site.text,
            at.address,
            at.length,
            _LETTERS[at.access],
            key.ip,
            time_ns,
            tid,
            in_kernel=HitFlag.IN_KERNEL in flags,
            call=call_name(Abi(key.abi), key.nr) if key.nr != NO_CALL else "",
            value=_cut(value, at.length) if has_value else None,
            part=self._site.part if watched.size else "",
            block_size=watched.size,
            block_stack=watched.stack,
            unsure=watched.is_unsure,
        )

    def complete(
        self,
        thread: SymbolizerThread,
        space_of: Callable[[int], AddressSpace],
        check: Callable[[], None],
        at_end: bool = False,
    ) -> list[HitPlace]:
        """New places with their instructions and names; `check` is called while names are read.

        A place whose stack has not arrived waits for it, but not `at_end`.
        """
        now, ready = time.monotonic_ns(), []
        for key in self._waiting:
            is_late = at_end or now - self._places[key].time_ns > _PATIENCE_NS
            if self._stacks.get((key.pid, key.stack)) or not key.stack or is_late:
                ready.append(key)
        self._waiting = [key for key in self._waiting if key not in set(ready)]
        stacks = {key: self._finished(key, space_of(key.pid)) for key in ready}
        _name(stacks.values(), thread, check)
        for key, stack in stacks.items():
            place = self._places[key]
            place.frames, place.ending = stack.frames, stack.ending
            place.by_allocator = any(map(_is_allocator, stack.frames))
        return [self._places[key] for key in ready if self._is_new(key, stacks[key])]

    def _is_new(self, key: _Key, stack: Stack) -> bool:
        """One stack may have several ids; their hits are summed up."""
        addresses = tuple(each.address for each in stack.addresses)
        place = self._places[key]
        known = self._found.setdefault((key._replace(stack=0), addresses), place)
        if known is place or not addresses:
            return True
        known.threads += place.threads
        known.unsure &= place.unsure
        self._places[key] = known
        return False

    def _finished(self, key: _Key, space: AddressSpace) -> Stack:
        """Finds the instruction; the stack begins with it."""
        place, known = self._places[key], self._stacks.get((key.pid, key.stack))
        addresses = known.addresses if known is not None else ()
        ending = known.ending if known is not None else Ending.LOST
        top = self._find(key, space, addresses)
        if top is not None:
            addresses = (top, *addresses[1:])
        generated = known.generated if known is not None else {}
        return Stack(key.pid, addresses, ending, generated, seen_ns=place.time_ns)

    def _find(
        self, key: _Key, space: AddressSpace, addresses: tuple[ReturnAddress, ...]
    ) -> ReturnAddress | None:
        """Sets the instruction of a place; returns its address as the innermost one."""
        place = self._places[key]
        mapping = addresses[0].mapping if addresses else space.find(key.ip)
        if place.in_kernel:
            place.doubt = Doubt.IN_KERNEL
            return None
        if mapping is None:
            place.doubt = Doubt.NO_CODE
            return None
        finder = self._finders.setdefault(key.pid, InstructionFinder(key.pid))
        caller = addresses[1] if len(addresses) > 1 else None
        if place.access == _LETTERS[Access.EXECUTE]:
            found = finder.at(mapping, key.ip)
        else:
            sp = self._sp[key]
            pushed = sp - place.length < place.address < sp + _WORD
            found = finder.before(mapping, key.ip, pushed, caller)
        if not isinstance(found, Instruction):
            place.doubt = found
            return None
        place.instruction = found
        is_there = mapping.start <= found.address < mapping.end
        of_code = mapping if is_there or caller is None else caller.mapping
        return ReturnAddress(found.address, found.address, of_code)

    def close(self) -> None:
        for finder in self._finders.values():
            finder.close()


def _name(stacks: Iterable[Stack], thread: SymbolizerThread, check: Callable[[], None]) -> None:
    """Gives the stacks names."""
    wanted = list(stacks)

    def job(symbolizer: Symbolizer) -> None:
        named = symbolizer.frames(wanted)
        for stack, frames in zip(wanted, named, strict=True):
            stack.frames = frames

    if wanted:
        run(thread, job, check)


def run(thread: SymbolizerThread, job: Job, check: Callable[[], None]) -> None:
    """Waits until the session's thread has done a job, and all urgent ones before it."""
    done = threading.Event()

    def job_and_signal(symbolizer: Symbolizer) -> None:
        job(symbolizer)
        done.set()

    thread.submit(job_and_signal, urgent=True)
    while not done.wait(_LOOK_S):
        thread.check()
        check()


def _is_allocator(frame: Frame) -> bool:
    symbol = frame.symbol
    for prefix in _PREFIXES:
        symbol = symbol.removeprefix(prefix)
    return symbol in _ALLOCATORS or frame.symbol in _ALLOCATORS


def _cut(value: int, length: int) -> int:
    return value & (1 << 8 * length) - 1
