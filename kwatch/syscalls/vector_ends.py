# SPDX-License-Identifier: Apache-2.0
"""Clears what was captured behind the null pointer that ends a vector of pointers.

The BPF program reads a fixed number of words, since the verifier does not let it look for the end.
What follows the vector is other memory of the program, which nobody asked for.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from kwatch.syscalls import calls
from kwatch.syscalls.calls import NARROW
from kwatch.wire.events import NO_PIECE, PIECES, Abi, Batch
from kwatch.wire.maps import CALL_NUMBERS

_CHUNK_HEAD = 4  # bytes: kwatch.syscalls.capture_format
_NESTED = PIECES - 1


def clear_vector_ends(
    events: Batch, starts: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]
) -> None:
    """`events`: kwatch.wire.events.CALL; the bytes of each begin at its start in `data`."""
    rows = events["abi"].astype(np.intp) * CALL_NUMBERS
    rows += np.minimum(events["nr"], CALL_NUMBERS - 1)
    for index in np.flatnonzero(_has_vectors()[rows]).tolist():
        abi = Abi(int(events["abi"][index]))
        lengths = np.where(events["pieces"][index] == NO_PIECE, 0, events["pieces"][index])
        ends = int(starts[index]) + np.cumsum(lengths, dtype=np.int64)
        for word in _vector_words(abi, int(events["nr"][index])):
            if lengths[word]:
                _clear(data[ends[word] - lengths[word] : ends[word]], abi)
        if lengths[_NESTED] > _CHUNK_HEAD:
            nested = data[ends[_NESTED] - lengths[_NESTED] : ends[_NESTED]]
            length = int(nested[:_CHUNK_HEAD].view("<i4")[0])
            _clear(nested[_CHUNK_HEAD : _CHUNK_HEAD + max(length, 0)], abi)


def _clear(vector: npt.NDArray[np.uint8], abi: Abi) -> None:
    width = 4 if abi in NARROW else 8
    whole = len(vector) // width * width
    nulls = np.flatnonzero(~vector[:whole].reshape(-1, width).any(axis=1))
    if len(nulls):
        vector[int(nulls[0]) * width :] = 0


@functools.cache
def _has_vectors() -> npt.NDArray[np.bool_]:
    return np.array(
        [bool(_vectors(abi, nr)) for abi in Abi for nr in range(CALL_NUMBERS)],
    )


@functools.cache
def _vector_words(abi: Abi, nr: int) -> tuple[int, ...]:
    """The registers of vectors that are captured as cells."""
    return tuple(word for word, base in _vectors(abi, nr) if base == "words")


def _vectors(abi: Abi, nr: int) -> list[tuple[int, str]]:
    call = calls.call(abi, nr)
    return [
        (each.word, each.kind.base)
        for each in (call.arguments if call is not None else ())
        if each.kind.base in ("words", "strings") and each.kind.length is None
    ]
