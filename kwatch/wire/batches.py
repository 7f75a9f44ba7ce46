# SPDX-License-Identifier: Apache-2.0
"""Copies of records. numpy copies structured arrays member by member, 12 to 24 times as slow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kwatch.wire.events import Batch


def copied(batch: Batch) -> Batch:
    return _raw(batch).copy().view(batch.dtype)


def chosen(batch: Batch, which: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Batch:
    """Copies of the records at these indexes, or of those that a mask selects."""
    return _raw(batch)[which].view(batch.dtype)


def concatenated(batches: Sequence[Batch]) -> Batch:
    """All records of at least one batch; all batches have the same dtype."""
    return np.concatenate([_raw(batch) for batch in batches]).view(batches[0].dtype)


def _raw(batch: Batch) -> Batch:
    """The same records without members."""
    return batch.view(f"V{batch.dtype.itemsize}")
