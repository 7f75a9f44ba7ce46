# SPDX-License-Identifier: Apache-2.0
"""How many blocks from before the attach were freed."""

from __future__ import annotations

import numpy as np
import pytest

from kwatch.aggregate.older_frees import OlderFrees


def test_each_address_counts_once():
    frees = OlderFrees()
    assert frees.count() == 0
    for _ in range(3):
        frees.add(np.arange(64, 64 * 11, 64, dtype=np.uint64))
    assert frees.count() == 10


@pytest.mark.parametrize("count", [1_000, 100_000, 2_000_000])
def test_many_addresses(count):
    frees = OlderFrees()
    frees.add(np.arange(count, dtype=np.uint64) * np.uint64(48) + np.uint64(0x7F0000001010))
    assert frees.count() == pytest.approx(count, rel=0.02)
