# SPDX-License-Identifier: Apache-2.0
"""The size limit, the order of eviction, and the callback."""

from __future__ import annotations

from kwatch.system.lru import Lru


def test_the_least_recently_used_value_is_evicted() -> None:
    evicted: list[str] = []
    cache: Lru[int, str] = Lru(5, on_evict=evicted.append, weigh=len)
    for key, value in enumerate(("aa", "bb", "c")):
        cache.put(key, value)
    assert cache.get(0) == "aa"
    cache.put(3, "dd")
    assert (evicted, cache.weight, len(cache)) == (["bb"], 5, 3)


def test_a_key_that_is_put_again_has_the_weight_of_its_new_value() -> None:
    evicted: list[str] = []
    cache: Lru[int, str] = Lru(4, on_evict=evicted.append, weigh=len)
    cache.put(1, "a")
    for value in ("bb", "bb", "cc"):
        cache.put(2, value)
    assert cache.weight == 3
    assert evicted == ["bb"]  # the same value stays
    cache.put(3, "d")
    assert [cache.get(key) for key in (1, 2, 3)] == ["a", "cc", "d"]


def test_putting_a_value_again_is_a_use() -> None:
    cache: Lru[int, str] = Lru(2)
    for key in (1, 2, 1, 3):
        cache.put(key, "value")
    assert [cache.get(key) for key in (1, 2, 3)] == ["value", None, "value"]


def test_the_newest_stays_however_heavy() -> None:
    cache: Lru[int, str] = Lru(2, weigh=len)
    cache.put(1, "a")
    cache.put(2, "a" * 100)
    assert (cache.get(1), len(cache), cache.weight) == (None, 1, 100)
