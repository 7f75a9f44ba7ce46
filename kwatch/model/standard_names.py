# SPDX-License-Identifier: Apache-2.0
"""Names of C++'s and Rust's own libraries, whose code is compiled into programs."""

from __future__ import annotations

import re

_CPP_NAMESPACES = ("std::", "__gnu_cxx::")
_RUST_CRATES = frozenset("alloc core std hashbrown __rustc".split())

#: Only C++ names end with parameters.
_CPP = re.compile(r".*\)(\[abi:\w+\]| const| volatile| &&?| \[clone [^\]]*\]| \[?\.[\w.]+\]?)*")
_CPP_OPERATOR = re.compile(r"\boperator\s*(<=>|<<=?|>>=?|<=?|>=?|->\*?|\(\)|\[\])")
_RUST_HEAD = re.compile(r"(?:&|\*const |\*mut |mut |dyn |[\[(])*(\w+)(?:\[[0-9a-f]+\])?(::|\b)")
_RUST_ALLOCATOR = re.compile(
    r"<.+ as [\w:\[\]]*\b(GlobalAlloc|Allocator)>::"
    r"(alloc|alloc_zeroed|realloc|allocate|allocate_zeroed|grow|grow_zeroed|shrink)"
    r"(::h[0-9a-f]{16})?"
)
_BRACKETS = {"<": 1, "(": 1, "[": 1, "{": 1, ">": -1, ")": -1, "]": -1, "}": -1}


def is_standard_name(symbol: str) -> bool:
    """Whether a demangled function belongs to the standard library of C++ or Rust.

    In Rust, the code of `<Mine as core::fmt::Display>` is the program's, that of
    `<u8 as core::fmt::Display>` and `<T as core::fmt::Display>` the library's.
    """
    if "::" not in symbol:
        return False
    if _CPP.fullmatch(symbol):
        return _cpp_name(symbol).startswith(_CPP_NAMESPACES)
    if not symbol.startswith("<"):
        return _is_rusts(symbol)
    subject, trait = _rust_impl(symbol)
    return _is_rusts(trait or subject) if "::" not in subject else _is_rusts(subject)


def is_rust_allocator(symbol: str) -> bool:
    """Whether a function is an allocator's method, which any crate may define."""
    return bool(_RUST_ALLOCATOR.fullmatch(symbol))


def _is_rusts(path: str) -> bool:
    match = _RUST_HEAD.match(path)
    return match is not None and match[1] in _RUST_CRATES and match[2] == "::"


def _rust_impl(symbol: str) -> tuple[str, str]:
    """The type and the trait of `<type as trait>::function`; no trait of `<type>::function`."""
    depth = split = 0
    for at, char in enumerate(symbol):
        depth += _BRACKETS.get(char, 0) if symbol[at - 1 : at + 1] not in ("->", "=>") else 0
        if depth == 1 and symbol.startswith(" as ", at):
            split = at
        if depth == 0:
            inside = (symbol[1:split], symbol[split + 4 : at]) if split else (symbol[1:at], "")
            return inside
    return symbol, ""


def _cpp_name(symbol: str) -> str:
    """The qualified name, without what it returns, its parameters and template arguments."""
    depth, kept = 0, []
    for char in _CPP_OPERATOR.sub("operator", symbol):
        change = _BRACKETS.get(char, 0)
        if not depth and not change:
            kept.append(char)
        depth += change
    words = "".join(kept).replace(" const", "").replace(" volatile", "").split()
    conversion = [word for word in words if word.endswith("::operator")]
    return [*words, *conversion][-1] if words else ""
