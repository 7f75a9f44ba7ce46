# SPDX-License-Identifier: Apache-2.0
"""Fills the maps of the capture plan, by which BPF programs read the memory of recorded calls."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from kwatch.kernel import bpf
from kwatch.syscalls.capture import Limits, plan, variants
from kwatch.syscalls.capture_format import Nested, What, When
from kwatch.wire.events import Abi
from kwatch.wire.maps import CALL_NUMBERS, CaptureKey, PieceFlag

Rows = npt.NDArray[np.void]


_ABIS = {"x86_64": (Abi.X86_64, Abi.I386, Abi.X32), "aarch64": (Abi.AARCH64, Abi.ARM)}


def fill_plan(maps: Mapping[str, bpf.Map], content: int) -> None:
    """Sets the rows of all calls. `content`: bytes of each buffer at most. Raises OSError."""
    limits = Limits(content=content)
    for abi in _ABIS[os.uname().machine]:
        rows, more = plan(abi, limits), variants(abi, limits)
        flags = pieces(rows)
        np.bitwise_or.at(flags, more["number"], pieces(more["row"]))
        rows["flags"] |= flags
        maps["capture_rows"].set_many(abi * CALL_NUMBERS, rows.tobytes())
        for number, command, row in zip(
            more["number"].tolist(), more["command"].tolist(), more["row"], strict=True
        ):
            key = CaptureKey(abi * CALL_NUMBERS + number, command)
            maps["capture_variants"].set(bytes(key), row.tobytes())


def pieces(rows: Rows) -> npt.NDArray[np.uint8]:
    """When there is something to read for each row: PieceFlag."""
    cells, nested = rows["cells"], rows["nested"]
    when = np.where(cells["what"] == What.NONE, 0, cells["when"])
    when = np.where(cells["what"] == What.IOCTL, When.ENTRY | When.EXIT, when)
    when = np.bitwise_or.reduce(when, axis=1)
    when |= np.where(nested["what"] == Nested.NONE, 0, nested["when"])
    at_exit = when & When.EXIT > 0
    found = np.where(when & When.ENTRY, int(PieceFlag.AT_ENTRY), 0)
    found |= np.where(at_exit, int(PieceFlag.AT_EXIT), 0)
    found |= np.where(at_exit & (when & When.ON_ERROR > 0), int(PieceFlag.ON_ERROR), 0)
    return found.astype(np.uint8)
