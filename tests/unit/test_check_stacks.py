# SPDX-License-Identifier: Apache-2.0
"""Which stacks of a second free say that glibc empties the cache of a thread that ends, or may."""

from __future__ import annotations

import pytest

from kwatch.commands.check.stacks import doubt_of
from kwatch.memory_errors.judge import Doubt, Proof
from kwatch.model.frame import Ending, Frame

LIBC, STATIC = "/lib/libc.so.6", "/opt/app"


def frames(module, *symbols):
    return tuple(Frame(0, symbol, module=module) for symbol in symbols)


@pytest.mark.parametrize(
    ("stack", "ending", "expected"),
    [
        (frames(LIBC, "", "start_thread"), Ending.COMPLETE, Doubt.THREAD_END),
        (frames(LIBC, ""), Ending.OFF, Doubt.THREAD_END),  # the caller alone is known
        (frames(LIBC, "fclose") + frames(STATIC, "main"), Ending.COMPLETE, None),
        (frames(STATIC, "__malloc_arena_thread_freeres"), Ending.COMPLETE, Doubt.THREAD_END),
        (frames(STATIC, "tcache_thread_shutdown.part.0"), Ending.OFF, Doubt.THREAD_END),
        (frames(STATIC, "run", "start_thread"), Ending.COMPLETE, None),
        ((), Ending.LOST, Doubt.NO_STACK),
    ],
)
def test_the_end_of_a_thread(stack, ending, expected):
    assert doubt_of(Proof.FREED, stack, ending) is expected
    assert doubt_of(Proof.INSIDE, stack, ending) is None
