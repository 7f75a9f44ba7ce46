# SPDX-License-Identifier: Apache-2.0
"""A bounded mapping that forgets what was used longest ago, and says so."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


def _ignore(_: object) -> None:
    """Nothing has to be done for a value that is forgotten."""


class Lru(Generic[K, V]):
    def __init__(self, size: int, on_evict: Callable[[V], None] = _ignore) -> None:
        self._size = size
        self._on_evict = on_evict
        self._items: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        value = self._items.get(key)
        if value is not None:
            self._items.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """`key` must be new."""
        self._items[key] = value
        if len(self._items) > self._size:
            self._on_evict(self._items.popitem(last=False)[1])

    def drain(self) -> Iterator[V]:
        """Takes every value out, without `on_evict`."""
        while self._items:
            yield self._items.popitem()[1]
