# SPDX-License-Identifier: Apache-2.0
"""Demangles Rust's legacy names: C++ mangling with a hash at the end and with escapes.

Source: the escapes that rustc writes with `legacy` symbol mangling.
"""

from __future__ import annotations

import re

_HASH = re.compile(r"h[0-9a-f]{16}")
_ESCAPE = re.compile(r"\$(u[0-9a-f]{1,6}|[A-Z]{1,2})\$|\.\.")
_NAMED = {"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ","}
_IDENTIFIER = re.compile(r"\d{1,4}")


def demangle_legacy(name: str) -> str | None:
    """The path without its hash; None if the name is not a legacy one."""
    if not name.startswith("_ZN"):
        return None
    parts, at = [], 3
    while match := _IDENTIFIER.match(name, at):
        end = match.end() + int(match[0])
        parts.append(name[match.end() : end])
        at = end
    rest = name[at:]
    if len(parts) < 2 or not _HASH.fullmatch(parts[-1]) or rest[:1] != "E":
        return None
    suffix = rest[1:] if rest[1:2] == "." and not rest.startswith("E.llvm.") else ""
    return "::".join(map(_decoded, parts[:-1])) + suffix


def _decoded(part: str) -> str:
    return _ESCAPE.sub(_unescaped, part[1:] if part.startswith("_$") else part)


def _unescaped(match: re.Match[str]) -> str:
    escape = match[1]
    if escape is None:
        return "::"
    if escape in _NAMED:
        return _NAMED[escape]
    if escape[0] == "u" and int(escape[1:], 16) < 0x110000:
        return chr(int(escape[1:], 16))
    return match[0]
