# SPDX-License-Identifier: Apache-2.0
"""A stack of return addresses. It gets names later, if a report shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kwatch.model.frame import Ending, Frame
from kwatch.procfs.address_space import ReturnAddress


@dataclass(slots=True)
class Stack:
    """Return addresses, innermost first, of a process that may have exited when they are named.

    `generated` has the frames of generated code. They are named at once, because other code may
    replace it. `frames` is empty until the names are final. `seen_ns`, on the clock of the events,
    is when the stack was seen: its addresses refer to the files as they were then.
    """

    pid: int = 0
    addresses: tuple[ReturnAddress, ...] = ()
    ending: Ending = Ending.COMPLETE
    generated: dict[ReturnAddress, Frame] = field(default_factory=dict)
    frames: tuple[Frame, ...] = ()
    seen_ns: int = 0


def up_to(frames: Sequence[Frame], is_last: Callable[[Frame], bool]) -> tuple[Frame, ...]:
    """The frames up to the first for which `is_last` is true; all if there is none."""
    end = next((index + 1 for index, frame in enumerate(frames) if is_last(frame)), None)
    return tuple(frames[:end])
