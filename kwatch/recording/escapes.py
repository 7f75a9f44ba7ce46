# SPDX-License-Identifier: Apache-2.0
"""Names of files and threads, which may be any bytes, as text and back."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|(\\))")
_FIRST_SURROGATE = 0xDC00  # of the bytes that are not UTF-8


def escaped(data: bytes) -> str:
    r"""Printable text: other bytes become `\x1b`, and a backslash becomes two."""
    text = data.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_escape, text))


def unescaped(text: str) -> bytes:
    """The bytes that `escaped` made the text of."""
    if "\\" not in text:
        return text.encode()
    parts: list[bytes] = []
    end = 0
    for found in _ESCAPE.finditer(text):
        parts.append(text[end : found.start()].encode())
        parts.append(bytes([int(found[1], 16)]) if found[1] else b"\\")
        end = found.end()
    return b"".join(parts) + text[end:].encode()


def _escape(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    number = ord(character)
    is_byte = _FIRST_SURROGATE <= number < _FIRST_SURROGATE + 256
    data = bytes([number - _FIRST_SURROGATE]) if is_byte else character.encode()
    return "".join(f"\\x{byte:02x}" for byte in data)
