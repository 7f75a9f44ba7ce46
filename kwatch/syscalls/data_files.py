# SPDX-License-Identifier: Apache-2.0
"""The lines of the data files, which tools/syscall_data makes: read once, when first asked for."""

from __future__ import annotations

import functools
from pathlib import Path

_FOLDER = Path(__file__).with_name("data")


@functools.cache
def rows(name: str) -> list[list[str]]:
    """The cells of each line of `data/NAME.tsv`."""
    text = (_FOLDER / f"{name}.tsv").read_text()
    return [line.split("\t") for line in text.splitlines() if not line.startswith("#")]


@functools.cache
def by_name(name: str) -> dict[str, list[list[str]]]:
    """The lines by their first cell; the cells behind it."""
    found: dict[str, list[list[str]]] = {}
    for first, *rest in rows(name):
        found.setdefault(first, []).append(rest)
    return found
