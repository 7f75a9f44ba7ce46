# SPDX-License-Identifier: Apache-2.0
"""A stack: where its return addresses lie. Names come later, if a report shows it."""

from __future__ import annotations

from dataclasses import dataclass, field

from kwatch.model.frame import Ending, Frame
from kwatch.procfs.address_space import ReturnAddress


@dataclass(slots=True)
class Stack:
    """Calls, innermost first, of a process that may be gone when they are named.

    `made` has the frames of code that the program itself has made, named as soon as can be: other
    code may take its place. `frames` is empty until the names are known for good. `seen_ns`, on
    the clock of the events: what a file was then is where its calls lie.
    """

    pid: int = 0
    addresses: tuple[ReturnAddress, ...] = ()
    ending: Ending = Ending.COMPLETE
    generated: dict[ReturnAddress, Frame] = field(default_factory=dict)
    frames: tuple[Frame, ...] = ()
    seen_ns: int = 0
