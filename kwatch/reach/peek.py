# SPDX-License-Identifier: Apache-2.0
"""Reads single words of a process at many addresses at once."""

from __future__ import annotations

import numpy as np

from kwatch.aggregate.order import U64
from kwatch.reach.memory import WORD, TargetMemory
from kwatch.reach.ranges import batches

#: Words that are closer than this are read in one piece.
_MAX_GAP = np.uint64(256)
_BATCH = 1 << 20
_WORD = np.uint64(WORD)


def words_at(memory: TargetMemory, addresses: U64) -> U64:
    """The word at each address; 0 where it cannot be read, or where an address is not aligned."""
    aligned = addresses & np.uint64(WORD - 1) == 0
    wanted, which = np.unique(addresses[aligned], return_inverse=True)
    found = np.zeros(len(addresses), np.uint64)
    if len(wanted) == 0:
        return found
    far = np.flatnonzero(wanted[1:] - wanted[:-1] > _MAX_GAP) + 1
    first = np.concatenate(([0], far))
    last = np.concatenate((far, [len(wanted)])) - 1
    ranges = np.column_stack((wanted[first], wanted[last] + _WORD))
    words = np.empty(len(wanted), np.uint64)
    into = np.empty(2 * _BATCH, np.uint8)
    done = 0
    for part in batches(ranges, _BATCH):
        lengths = part[:, 1] - part[:, 0]
        size = int(lengths.sum())
        memory.read(part, into[:size])
        end = int(wanted.searchsorted(part[-1, 1]))
        here = wanted[done:end]
        at = part[:, 0].searchsorted(here, "right") - 1
        offsets = here - part[at, 0] + (np.cumsum(lengths) - lengths)[at]
        words[done:end] = into[:size].view(np.uint64)[(offsets // _WORD).astype(np.intp)]
        done = end
    found[aligned] = words[which]
    return found
