# SPDX-License-Identifier: Apache-2.0
"""Removes the oldest segments of a recording, so that it stays within its limits."""

from __future__ import annotations

import json
import time
from pathlib import PurePosixPath
from typing import NamedTuple

from kwatch.recording.segment import Segment
from kwatch.recording.store import Store, manifests

_NS = 1_000_000_000


class _Kept(NamedTuple):
    manifest: str
    files: tuple[str, ...]
    bytes: int
    ended_ns: int


class Retention:
    """Segments of this host, also those of earlier runs. Others are left alone."""

    def __init__(self, store: Store, host: str, size: int | None, age_s: float | None) -> None:
        """`size`: bytes of all segments. None: they stay. Raises KwatchError."""
        self._store = store
        self._size = size
        self._age_s = age_s
        folder = f"host={host}"
        self._kept: list[_Kept] = []
        if size is not None or age_s is not None:
            found = [n for n in manifests(store.path) if PurePosixPath(n).parts[1] == folder]
            self._kept = [self._read(name) for name in found]

    def _read(self, manifest: str) -> _Kept:
        found = json.loads(self._store.read(manifest))
        files = found["files"].values()
        return _Kept(
            manifest,
            tuple(each["path"] for each in files),
            sum(each["bytes"] for each in files),
            found["ended_ns"],
        )

    def add(self, segment: Segment) -> None:
        """Takes a segment that was committed. Raises OSError."""
        if self._size is None and self._age_s is None:
            return
        self._kept.append(
            _Kept(segment.manifest, tuple(segment.paths), segment.bytes, time.time_ns())
        )
        while len(self._kept) > 1 and self._is_too_much():
            oldest = self._kept.pop(0)
            self._store.remove(oldest.manifest)
            for path in oldest.files:
                self._store.remove(path)

    def _is_too_much(self) -> bool:
        total = sum(each.bytes for each in self._kept)
        if self._size is not None and total > self._size:
            return True
        oldest = self._kept[0].ended_ns
        return self._age_s is not None and time.time_ns() - oldest > self._age_s * _NS
