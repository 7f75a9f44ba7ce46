# SPDX-License-Identifier: Apache-2.0
"""What came of one program's calls, and what of it must not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from programs import Checked

KINDS = ("exact", "truncated", "further", "wrong", "lost", "no event")

#: Of the stacks that were compared: a resolver of lazy binding, some assembly.
_MAX_TRUNCATED = 0.005


@dataclass(slots=True)
class Result:
    """Calls by what became of them; `distinct`: stacks. `status`: what the program's kwatch
    returned."""

    counts: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    distinct: set[int] = field(default_factory=set)
    depths: list[int] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    status: int = 0

    @property
    def compared(self) -> int:
        return self.counts.total() - self.counts["no event"]


def faults(program: Checked, result: Result) -> Iterator[str]:
    """Why the check has failed, if it has."""
    counts, compared = result.counts, result.compared
    if result.status:
        yield f"ended with status {result.status}"
    if not compared:
        yield "nothing was compared"
    for kind in ("wrong", "lost"):
        if counts[kind]:
            yield f"{counts[kind]} of {compared} stacks are {kind}"
    if counts["truncated"] > _MAX_TRUNCATED * compared and not program.truncated_because:
        yield f"{counts['truncated']} of {compared} stacks are truncated"
