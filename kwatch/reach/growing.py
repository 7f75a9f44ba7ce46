# SPDX-License-Identifier: Apache-2.0
"""An array to which items are added, without a copy when it grows."""

from __future__ import annotations

import mmap
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

_Item = TypeVar("_Item", bound=np.generic)

_MIN_BYTES = 1 << 20
_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class GrowingArray(Generic[_Item]):
    """A mapping of its own, which mremap(2) extends. Only what is filled takes memory."""

    def __init__(self, kind: type[_Item]) -> None:
        self._kind = np.dtype(kind)
        self._mapping = mmap.mmap(-1, _MIN_BYTES, flags=_FLAGS)
        self._count = 0

    def extend(self, items: npt.NDArray[_Item]) -> None:
        end = (self._count + len(items)) * self._kind.itemsize
        if end > len(self._mapping):
            self._mapping.resize(max(end, 2 * len(self._mapping)))
        at = self._count * self._kind.itemsize
        np.frombuffer(self._mapping, self._kind, len(items), at)[:] = items
        self._count += len(items)

    def array(self) -> npt.NDArray[_Item]:
        """All items. Nothing can be added while it is in use."""
        items: npt.NDArray[_Item] = np.frombuffer(self._mapping, self._kind, self._count)
        return items
