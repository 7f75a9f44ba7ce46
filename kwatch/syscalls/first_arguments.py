# SPDX-License-Identifier: Apache-2.0
"""The first descriptor and the first path of a call."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from kwatch.syscalls import calls
from kwatch.wire.events import Abi


@functools.cache
def first_words(abi: int, nr: int) -> tuple[int | None, int | None]:
    """The registers of the first descriptor and the first path."""
    call = calls.call(Abi(abi), nr)
    if call is None:
        return None, None
    path = next((each.word for each in call.arguments if each.kind.base == "path"), None)
    return call.descriptor.word if call.descriptor is not None else None, path


def first_path(abi: int, nr: int, pieces: Sequence[bytes | None]) -> bytes | None:
    """As the call was given it, captured before or after; None if it has none."""
    _, word = first_words(abi, nr)
    if word is None:
        return None
    piece = pieces[word] if pieces[word] is not None else pieces[word + 6]
    return None if piece is None else piece.partition(b"\0")[0]
