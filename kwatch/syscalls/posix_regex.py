# SPDX-License-Identifier: Apache-2.0
"""POSIX extended regular expressions, as strace takes them, by the C library's regcomp(3)."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

_EXTENDED, _NO_SUBEXPRESSIONS = 1, 8  # the same in glibc and musl
_MAX_REGEX_SIZE = 256  # of regex_t: 64 bytes in glibc, 128 in musl
_MAX_MESSAGE = 256


def compiled(pattern: str) -> Callable[[str], bool]:
    """A function that says whether a text contains a match. Raises ValueError."""
    lib = _libc()
    regex = ctypes.create_string_buffer(_MAX_REGEX_SIZE)
    if "\0" in pattern:
        raise ValueError("it has a null character")
    error = lib.regcomp(regex, pattern.encode(), _EXTENDED | _NO_SUBEXPRESSIONS)
    if error:
        message = ctypes.create_string_buffer(_MAX_MESSAGE)
        lib.regerror(error, regex, message, len(message))
        raise ValueError(message.value.decode(errors="replace"))

    def matches(text: str) -> bool:
        return lib.regexec(regex, text.encode(), 0, None, 0) == 0  # type: ignore[no-any-return]

    return matches


@functools.cache
def _libc() -> ctypes.CDLL:
    lib = ctypes.CDLL(None)
    lib.regcomp.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]
    lib.regerror.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
    lib.regexec.argtypes = [
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
        ctypes.c_int,
    ]
    return lib
