# SPDX-License-Identifier: Apache-2.0
"""Numbers the texts of columns that have few distinct ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pyarrow as pa


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


class ColumnTexts(defaultdict[str, Texts]):
    """The texts by column."""

    def __init__(self) -> None:
        super().__init__(Texts)
