# SPDX-License-Identifier: Apache-2.0
"""How the memory and the descriptors of one process have grown, from readings of its usage."""

from __future__ import annotations

from kwatch.model.usage import Usage


class UsageAccount:
    """Growth counts from the lowest reading: what is freed and taken again has not grown."""

    def __init__(self) -> None:
        self.last: Usage | None = None
        self._lowest_anonymous: int | None = None
        self._lowest_shared: int | None = None
        self._lowest_descriptors: int | None = None

    def add(self, usage: Usage) -> None:
        """Adds a reading, in order of time."""
        self.last = usage
        self._lowest_anonymous = _lower(self._lowest_anonymous, usage.anonymous)
        self._lowest_shared = _lower(self._lowest_shared, usage.shared)
        self._lowest_descriptors = _lower(self._lowest_descriptors, usage.descriptors)

    def exec(self) -> None:
        """A new program starts without memory; it keeps the descriptors."""
        self.last = None
        self._lowest_anonymous = self._lowest_shared = 0

    @property
    def anonymous_growth(self) -> int:
        """In bytes; 0 without a reading."""
        return 0 if self.last is None else self.last.anonymous - (self._lowest_anonymous or 0)

    @property
    def shared_growth(self) -> int:
        """Growth of resident shared memory in bytes; 0 without a reading."""
        return 0 if self.last is None else self.last.shared - (self._lowest_shared or 0)

    @property
    def descriptor_growth(self) -> int:
        """0 if they cannot be counted."""
        if self.last is None or self.last.descriptors is None:
            return 0
        return self.last.descriptors - (self._lowest_descriptors or 0)


def _lower(lowest: int | None, value: int | None) -> int | None:
    if lowest is None or value is None:
        return value if lowest is None else lowest
    return min(lowest, value)
