# SPDX-License-Identifier: Apache-2.0
"""Finds the files of allocators that tests preload."""

from __future__ import annotations

from pathlib import Path


def library(name: str) -> Path | None:
    """The shared library NAME.so.N for this machine's architecture."""
    found = sorted(Path("/usr/lib").glob(f"*-linux-gnu/{name}.so.[0-9]"))
    return found[0] if found else None
