# SPDX-License-Identifier: Apache-2.0
"""Numbers the texts of columns that have few distinct ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

ByNumber = Mapping[int, str] | Sequence[str]
Comms = npt.NDArray[np.bytes_]


class Texts:
    """The distinct texts of a column, in the order in which they came."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._index: dict[str, int] = {}

    def add(self, text: str) -> int:
        index = self._index.setdefault(text, len(self.texts))
        if index == len(self.texts):
            self.texts.append(text)
        return index

    def encode(self, values: pa.Array, text_of: Callable[[bytes], str]) -> pa.Array:
        """The index of each of the values, of which few are distinct; null for null."""
        encoded = values.dictionary_encode()
        known = [self.add(text_of(value)) for value in encoded.dictionary.to_pylist()]
        if not known:
            return encoded.indices
        return pa.array(known, pa.int32()).take(encoded.indices)

    def encode_runs(self, values: Comms, text_of: Callable[[bytes], str]) -> pa.Array:
        """The index of each of the values of 16 bytes, of which few differ from the one before."""
        differs = np.ones(len(values), bool)
        first, second = values.view(np.uint64)[::2], values.view(np.uint64)[1::2]
        differs[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
        heads = np.flatnonzero(differs)
        known = [self.add(text_of(value)) for value in values[heads].tolist()]
        lengths = np.diff(heads, append=len(values))
        return pa.array(np.repeat(np.array(known, np.int32), lengths))

    def by_number(self, numbers: npt.NDArray[np.intp], texts: ByNumber) -> pa.Array:
        """The index of the text of each of the small numbers."""
        counts = np.bincount(numbers, minlength=1)
        indexes = np.zeros(len(counts), np.int32)
        for number in np.flatnonzero(counts).tolist():
            indexes[number] = self.add(texts[number])
        return pa.array(indexes[numbers])


class ColumnTexts(defaultdict[tuple[str, str], Texts]):
    """The texts by table and column."""

    def __init__(self) -> None:
        super().__init__(Texts)
