# SPDX-License-Identifier: Apache-2.0
"""Globs for process names: matched here, and compiled for the BPF programs.

Names are bytes, as in the kernel: `?` matches one byte.
"""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase

from kwatch.errors import UsageError
from kwatch.wire.maps import Pattern

_MAX_ELEMENTS = 31
_ELEMENT = re.compile(r"\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)


def check(glob: str) -> str:
    """Returns the glob; raises UsageError if it cannot match anything."""
    if not glob or "/" in glob or "\0" in glob:
        raise UsageError(
            f"--comm {glob!r}: a process name is not empty and has no slash",
            "give a name or glob such as nginx or 'php-fpm*'",
        )
    return glob


def matches(globs: tuple[str, ...], *names: str) -> bool:
    """Whether any of the names (comm, base name of the executable) matches any glob."""
    patterns = [os.fsencode(glob) for glob in globs]
    return any(fnmatchcase(os.fsencode(name), p) for p in patterns for name in names if name)


def automaton(glob: str) -> bytes | None:
    """The `struct pattern` of bpf/maps.h; None if the glob has too many elements.

    State i means that the first i elements other than '*' have matched.
    """
    elements = _ELEMENT.findall(os.fsencode(glob).decode("latin-1"))
    wanted = [element for element in elements if element != "*"]
    if len(wanted) > _MAX_ELEMENTS:
        return None
    loops = state = 0
    for element in elements:
        if element == "*":
            loops |= 1 << state
        else:
            state += 1
    accepts = [0] * 256
    for index, element in enumerate(wanted):
        for byte in range(1, 256):
            if fnmatchcase(chr(byte), element):
                accepts[byte] |= 1 << index
    return bytes(Pattern(loops, 1 << state, tuple(accepts)))
