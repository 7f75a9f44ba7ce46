# SPDX-License-Identifier: Apache-2.0
"""The options of `kwatch check` that decide what it prints and how it ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CheckOptions:
    json: bool = False
    output: str | None = None
    duration_s: float | None = None
    fail_on_error: bool = False
