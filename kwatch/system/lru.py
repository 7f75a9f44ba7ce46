# SPDX-License-Identifier: Apache-2.0
"""A bounded mapping that evicts the least recently used values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


def _ignore(_: object) -> None:
    """An evicted value needs no cleanup."""


def _one(_: object) -> int:
    return 1


class Lru(Generic[K, V]):
    """`size` bounds the sum of the weights; without `weigh`, the number of values."""

    def __init__(
        self,
        size: int,
        on_evict: Callable[[V], None] = _ignore,
        weigh: Callable[[V], int] = _one,
    ) -> None:
        self._size = size
        self._on_evict = on_evict
        self._weigh = weigh
        self._items: OrderedDict[K, V] = OrderedDict()
        self.weight = 0

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: K) -> V | None:
        value = self._items.get(key)
        if value is not None:
            self._items.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Replaces the value of the key. The newest value stays, however heavy it is."""
        old = self._items.get(key)
        if old is not None:
            self.remove(key)
            if old is not value:
                self._on_evict(old)
        self._items[key] = value
        self.weight += self._weigh(value)
        while self.weight > self._size and len(self._items) > 1:
            evicted = self._items.popitem(last=False)[1]
            self.weight -= self._weigh(evicted)
            self._on_evict(evicted)

    def remove(self, key: K) -> V:
        """Removes a value without `on_evict`."""
        value = self._items.pop(key)
        self.weight -= self._weigh(value)
        return value

    def drain(self) -> Iterator[V]:
        """Removes every value without `on_evict`."""
        self.weight = 0
        while self._items:
            yield self._items.popitem()[1]
