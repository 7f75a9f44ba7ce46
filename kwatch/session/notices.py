# SPDX-License-Identifier: Apache-2.0
"""Messages that kwatch prints while it traces."""

from __future__ import annotations

from collections.abc import Callable


class Notices:
    """`say` prints a message. The start announces nothing: the `attached` line sums it up."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._announces = False

    def warn(self, line: str) -> None:
        """Prints a warning."""
        self._say(f"kwatch: {line}")

    def announce(self, line: str) -> None:
        """Prints what was attached after the start, or could not be attached."""
        if self._announces:
            self._say(line)

    def start_announcing(self) -> None:
        self._announces = True
