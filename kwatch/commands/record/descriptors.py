# SPDX-License-Identifier: Apache-2.0
"""Reads what the traced processes have open, for a recording."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from kwatch.descriptors.live import open_descriptors
from kwatch.recording.escapes import escaped


def descriptor_rows(pids: Iterable[int]) -> list[dict[str, Any]]:
    """Rows of the table `descriptors`; none of a process that has ended."""
    return [
        {
            "pid": pid,
            "fd": fd,
            "target": escaped(os.fsencode(each.text)),
            "survives_exec": each.is_kept,
        }
        for pid in pids
        for fd, each in open_descriptors(pid).items()
    ]
