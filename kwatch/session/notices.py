# SPDX-License-Identifier: Apache-2.0
"""Lines for people that come up while kwatch traces."""

from __future__ import annotations

from collections.abc import Callable


class Notices:
    """`say` writes a line. Announcements wait until the start is over: one line sums that up."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._announces = False

    def warn(self, line: str) -> None:
        """Says what went wrong."""
        self._say(f"kwatch: {line}")

    def announce(self, line: str) -> None:
        """Says what was attached later, or could not be."""
        if self._announces:
            self._say(line)

    def start_announcing(self) -> None:
        self._announces = True
