# SPDX-License-Identifier: Apache-2.0
"""Shortens the function names of C++ and Rust."""

from __future__ import annotations

import re

from kwatch.sinks.table.screen import Screen, columns

#: Brackets that are part of an operator's name, else a single character.
_TOKEN = re.compile(
    r"operator(?:\(\)|<=>|<<=?|>>=?|->\*?|<=?|>=?)|\(anonymous namespace\)|->|.", re.DOTALL
)


def shortened(symbol: str, screen: Screen, room: int) -> str:
    """`symbol` in at most `room` columns, without template arguments and parameters if need be.

    If it is still too long, outer namespaces and classes go: the end says most.
    """
    symbol = screen.clean(symbol)
    if columns(symbol) > room:
        symbol = _without_arguments(symbol, screen.ellipsis)
    if columns(symbol) > room:
        symbol = _innermost(symbol.removesuffix(f"({screen.ellipsis})"), screen.ellipsis, room)
    return screen.clip(symbol, room)


def _innermost(name: str, ellipsis: str, room: int) -> str:
    """`…Widget::paint` for `ui::detail::Widget::paint`."""
    outer, inner = "", name
    while columns(outer + inner) > room and "::" in inner:
        inner = inner.partition("::")[2]
        outer = ellipsis
    return outer + inner


def _without_arguments(symbol: str, ellipsis: str) -> str:
    """`map<…>::at(…)` for `map<int, int>::at(int const&)`; unchanged if brackets do not match."""
    kept, depth = "", 0
    for token in _TOKEN.findall(symbol):
        if token in (">", ")"):
            depth -= 1
        if depth < 0:
            return symbol
        if depth == 0:
            kept += token
        if token in ("<", "("):
            kept += ellipsis if depth == 0 else ""
            depth += 1
    return symbol if depth else kept
