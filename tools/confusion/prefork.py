# SPDX-License-Identifier: Apache-2.0
"""A master whose workers do the work."""

from __future__ import annotations

import psutil

from confusion.spoken import Spoken


class Prefork(Spoken):
    @property
    def pids(self) -> tuple[int, ...]:
        (master,) = super().pids
        return (master, *(child.pid for child in psutil.Process(master).children()))
