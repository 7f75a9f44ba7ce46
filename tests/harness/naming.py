# SPDX-License-Identifier: Apache-2.0
"""Symbolizes one stack at once; reports do that in a later step."""

from __future__ import annotations

from collections.abc import Sequence

from kwatch.model.frame import Frame
from kwatch.procfs.address_space import AddressSpace
from kwatch.symbols.symbolizer import Symbolizer


def frames_of(
    symbolizer: Symbolizer, pid: int, space: AddressSpace, addresses: Sequence[int]
) -> tuple[Frame, ...]:
    stack = symbolizer.stack(pid, space, addresses)
    symbolizer.name_generated(stack)
    return symbolizer.frames([stack])[0]
