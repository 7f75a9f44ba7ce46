# SPDX-License-Identifier: Apache-2.0
"""Allocators that tests preload: their files, by the names that the linker knows."""

from __future__ import annotations

from pathlib import Path


def library(name: str) -> Path | None:
    """The shared library NAME.so.N of this machine's own architecture."""
    found = sorted(Path("/usr/lib").glob(f"*-linux-gnu/{name}.so.[0-9]"))
    return found[0] if found else None
