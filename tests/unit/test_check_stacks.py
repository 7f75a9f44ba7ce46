# SPDX-License-Identifier: Apache-2.0
"""Which stacks of a second free say that glibc empties the cache of a thread that ends."""

from __future__ import annotations

import pytest

from kwatch.commands.check.stacks import is_thread_end
from kwatch.memory_errors.judge import Proof
from kwatch.model.frame import Ending, Frame

LIBC, STATIC = "/lib/libc.so.6", "/opt/app"


def frames(module, *symbols):
    return tuple(Frame(0, symbol, module=module) for symbol in symbols)


@pytest.mark.parametrize(
    ("stack", "ending", "expected"),
    [
        (frames(LIBC, "", "start_thread"), Ending.COMPLETE, True),
        (frames(LIBC, ""), Ending.OFF, True),  # the caller alone is known
        (frames(LIBC, "fclose") + frames(STATIC, "main"), Ending.COMPLETE, False),
        (frames(STATIC, "__malloc_arena_thread_freeres", "start_thread"), Ending.COMPLETE, True),
        (frames(STATIC, "tcache_thread_shutdown.part.0"), Ending.OFF, True),
        (frames(STATIC, "run", "start_thread"), Ending.COMPLETE, False),
    ],
)
def test_the_end_of_a_thread(stack, ending, expected):
    assert is_thread_end(Proof.FREED, stack, ending) is expected
    assert not is_thread_end(Proof.INSIDE, stack, ending)
