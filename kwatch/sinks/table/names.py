# SPDX-License-Identifier: Apache-2.0
"""Function names of C++ and Rust in little room."""

from __future__ import annotations

import re

from kwatch.sinks.table.screen import Screen, columns

#: Brackets that open and close nothing, and then every single character.
_TOKEN = re.compile(
    r"operator(?:\(\)|<=>|<<=?|>>=?|->\*?|<=?|>=?)|\(anonymous namespace\)|->|.", re.DOTALL
)


def shortened(symbol: str, screen: Screen, room: int) -> str:
    """In at most `room` columns: template arguments and parameters go before the name does.

    Of what is too long even so, outer namespaces and classes go: the end tells most.
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
    """`map<…>::at(…)` for `map<int, int>::at(int const&)`; as it was if brackets do not match."""
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
