# SPDX-License-Identifier: Apache-2.0
"""The memory of a process, kept when it ends or makes an exec, until it has been scanned.

It costs the process nothing before, and nobody waits for it: see kwatch.reach.holder_process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from kwatch.reach.holder import Holder, NotHeld, Vanished
from kwatch.reach.memory import TargetMemory
from kwatch.reach.memory_limits import MemoryLimits
from kwatch.reach.pages import PageMap
from kwatch.reach.region_query import query_regions
from kwatch.reach.regions import Region, parse_regions

_ATTEMPTS = 3  # an exec may come between
_AT_ONCE = 1 << 16
_SHARED_MEMORY = ("/dev/zero", "/dev/shm/", "/memfd:", "/SYSV")  # other shared files are on disk
_SURELY_RESIDENT = ("[vdso]", "[stack]")


class HeldMemory:
    """Of the program that the process runs now. Raises NotHeld.

    `memory` and `pages` read it, also after the end, while `is_held`.
    """

    def __init__(self, pid: int, holder: Holder) -> None:
        self.pid = pid
        self._holder = holder
        self._known: list[Region] = []
        self._limits = MemoryLimits(pid)
        self._opened = ExitStack()
        for attempt in range(_ATTEMPTS):
            try:
                self._take()
                return
            except Vanished:
                self._opened.close()
                if attempt == _ATTEMPTS - 1:
                    raise
            except BaseException:
                self._opened.close()
                raise

    @property
    def is_held(self) -> bool:
        """Whether the end of the process leaves its memory readable."""
        return self._holder.is_alive and self._holder.starts == self._start

    @property
    def descriptors(self) -> tuple[int, int]:
        """The open mem and pagemap files, as TargetMemory and PageMap take them."""
        return self._mem, self._pagemap

    def regions(self) -> list[Region]:
        """The mappings by address.

        After the end too, until its parent has waited for it, and since Linux 6.11 for as long as
        it is held. On older kernels they are then those of the last call.
        """
        found = self._listed() or query_regions(self._maps)
        if found:
            self._known = found
        return self._known

    def missing_room(self) -> int:
        """How many bytes are missing to run the same program again meanwhile; 0 if none are.

        Whoever holds the memory of a process that has ended must not bring others to the limit.
        """
        held = 0
        for region in self.regions():
            is_memory = region.is_shared and region.path.startswith(_SHARED_MEMORY)
            runs = self.pages.resident(region.start, region.end, is_memory)
            held += int((runs[:, 1] - runs[:, 0]).sum())
        return max(0, held - self._limits.left())

    def renew(self) -> None:
        """Holds the memory again after the holder has ended; else does nothing. Raises NotHeld."""
        if not self.is_held:
            self._hold()

    def release(self) -> None:
        """Lets the memory go: the kernel frees it now if the process has ended."""
        if self.is_held:
            self._holder.release(self._place)
        self._opened.close()

    def __enter__(self) -> HeldMemory:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _take(self) -> None:
        with ExitStack() as stack:
            self._mem, self._pagemap, self._maps = _open(self.pid, stack)
            if not self.regions():
                raise Vanished("the process has ended")
            self._hold()
            self._opened = stack.pop_all()
        self.memory = TargetMemory(self.pid, self._mem)
        self.pages = PageMap(self.pid, self._pagemap)

    def _hold(self) -> None:
        for address in _readable(self._known):
            with suppress(Vanished):
                self._place = self._holder.hold(self._mem, address)
                self._start = self._holder.starts
                return
        raise Vanished("the process has ended")

    def _listed(self) -> list[Region]:
        """Empty if nobody has the process's number any more, or it has let the memory go."""
        text, size = b"", -1
        with suppress(ProcessLookupError):
            while len(text) != size:
                size = len(text)
                text += os.pread(self._maps, _AT_ONCE, size)
        return list(parse_regions(text.splitlines()))


def _open(pid: int, stack: ExitStack) -> list[int]:
    """The descriptors of mem, pagemap and maps. Raises NotHeld."""
    try:
        tids = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
        found = next(filter(None, (_files(pid, tid, stack) for tid in tids)), None)
    except FileNotFoundError:
        found = None
    except OSError as error:
        raise NotHeld(f"its memory cannot be opened: {error.strerror}") from error
    if found is None:
        raise Vanished("the process has ended")
    return found


def _files(pid: int, tid: int, stack: ExitStack) -> list[int] | None:
    """None if the thread has ended: then it has no memory, even if other threads go on."""
    try:
        folder = os.open(f"/proc/{pid}/task/{tid}", os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        found = [_opened(folder, name, stack) for name in ("mem", "pagemap", "maps")]
        return found if os.pread(found[2], 1, 0) else None
    except (FileNotFoundError, ProcessLookupError):
        return None
    finally:
        os.close(folder)


def _opened(folder: int, name: str, stack: ExitStack) -> int:
    descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
    stack.callback(os.close, descriptor)
    return descriptor


def _readable(regions: list[Region]) -> Iterator[int]:
    """Addresses in memory, likeliest first; to read them costs the process no memory."""
    for name in _SURELY_RESIDENT:
        yield from (region.end - 8 for region in regions if region.path == name)
    yield from (region.start for region in regions if region.permissions.startswith("r"))
