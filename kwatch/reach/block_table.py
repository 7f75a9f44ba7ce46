# SPDX-License-Identifier: Apache-2.0
"""Tables of blocks that kwatch and its scanner hand to each other in memory files."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

#: Outstanding blocks as the allocation map knows them, by address.
KNOWN = np.dtype([("address", "<u8"), ("size", "<u8")])

#: Blocks of which something is asked.
ADDRESSES = np.dtype([("address", "<u8")])

#: Blocks as a scan found them, by address. `reach`: kwatch.reach.classify.Reach. `stack_only`: only
#: stacks and registers hold the block. `exact`: `size` is the requested size, not the usable one.
SCANNED = np.dtype(
    [("address", "<u8"), ("size", "<u8"), ("reach", "u1"), ("stack_only", "?"), ("exact", "?")]
)

#: The result of all scans. `leader`: the address of the definitely lost block that leads to the
#: block if it is indirectly lost; its own otherwise.
JUDGED = np.dtype([*SCANNED.descr, ("leader", "<u8")])

Table = npt.NDArray[np.void]


def to_file(table: Table) -> int:
    """A new memory file with the rows of a table."""
    file = os.memfd_create("blocks", os.MFD_CLOEXEC)
    try:
        data = memoryview(table.tobytes())
        while data:
            data = data[os.write(file, data) :]
    except BaseException:
        os.close(file)
        raise
    return file


def from_file(file: int, dtype: np.dtype[np.void]) -> Table:
    """The rows in a memory file, which is closed."""
    with os.fdopen(file, "rb") as opened:
        opened.seek(0)
        return np.frombuffer(opened.read(), dtype)
