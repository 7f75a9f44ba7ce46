# SPDX-License-Identifier: Apache-2.0
"""Whole copies of records are those that numpy makes member by member."""

from __future__ import annotations

import numpy as np
import pytest

from kwatch.wire.batches import chosen, concatenated, copied
from kwatch.wire.events import CALL, HEAP


@pytest.fixture(params=[CALL, HEAP], ids=["calls", "heap"])
def records(request):
    data = np.random.default_rng(7).integers(0, 256, 50 * request.param.itemsize, np.uint8)
    return data.view(request.param)


def test_a_copy(records):
    found = copied(records[10:20])
    assert found.tobytes() == records[10:20].copy().tobytes()
    assert not np.shares_memory(found, records)


@pytest.mark.parametrize("which", [np.array([3, 1, 1, 49]), np.arange(50) % 3 == 0, slice(5, 9)])
def test_a_choice(records, which):
    assert chosen(records, which).tobytes() == records[which].tobytes()
    assert chosen(records, which).dtype == records.dtype


def test_a_view_with_gaps(records):
    assert copied(records[::3]).tobytes() == records[::3].tobytes()


def test_parts_in_a_row(records):
    assert concatenated([records[:7], records[20:]]).tobytes() == (
        records[:7].tobytes() + records[20:].tobytes()
    )
