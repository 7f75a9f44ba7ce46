# SPDX-License-Identifier: Apache-2.0
"""Which stacks lead through a function or a source line. Each stack is named once."""

from __future__ import annotations

import difflib

from kwatch.model.frame import Frame
from kwatch.symbols.stack import Stack
from kwatch.symbols.symbolizer import Symbolizer
from kwatch.symbols.symbolizer_thread import SymbolizerThread
from kwatch.system.lru import Lru
from kwatch.watchpoints.site import Site

_MAX_NAMED = 65_536
_NEAR = 3


class SiteStacks:
    """Stacks are named in the session's thread; until then it is not known whether they match."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._new: dict[int, Stack] = {}
        self._named: Lru[int, tuple[bool, tuple[Frame, ...]]] = Lru(_MAX_NAMED)
        self._seen: set[str] = set()  # names of functions
        self.has_any = False

    def add(self, identity: int, stack: Stack) -> None:
        if self._named.get(identity) is None:
            self._new[identity] = stack

    def begin_naming(self, thread: SymbolizerThread) -> None:
        """Names what has arrived since the last call."""
        new, self._new = self._new, {}
        if not new:
            return

        def job(symbolizer: Symbolizer) -> None:
            named = symbolizer.frames(list(new.values()))
            for identity, frames in zip(new, named, strict=True):
                matches = any(map(self._matches, frames))
                self._seen.update(frame.symbol.partition("(")[0] for frame in frames)
                self._named.put(identity, (matches, frames))
                self.has_any |= matches

        thread.submit(job, urgent=True)

    def matches(self, identity: int) -> bool | None:
        """None as long as it is not known."""
        found = self._named.get(identity)
        return None if found is None else found[0]

    def frames(self, identity: int) -> tuple[Frame, ...]:
        found = self._named.get(identity)
        return () if found is None else found[1]

    def near(self, name: str) -> list[str]:
        """Names of functions that look like this one, of the stacks that were named."""
        return difflib.get_close_matches(name, self._seen, _NEAR)

    def _matches(self, frame: Frame) -> bool:
        site = self._site
        if site.line is not None:
            is_file = frame.file == site.name or frame.file.endswith(f"/{site.name}")
            return is_file and frame.line == site.line
        return site.name in (frame.symbol, frame.symbol.partition("(")[0])
